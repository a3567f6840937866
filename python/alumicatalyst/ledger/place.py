"""Where a ledger is: its log, its key, the verifier key and the kept checkpoint beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger.log import CHECKPOINT
from alumicatalyst.ledger.note import SigningKey, VerifierKey, vkey_path
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.settings.ledger import LedgerSettings

_VKEY_BYTES_MAX = 65_536

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one ledger.

    Attributes:
        folder: The log.
        key: The private key's file; the verifier key is beside it.
        origin: The log's name.
    """

    folder: Path
    key: Path
    origin: str

    @classmethod
    def of(cls, settings: LedgerSettings) -> Self:
        """Return the place that the settings name."""
        return cls(path_of(settings.uri), path_of(settings.key), settings.origin)

    @property
    def kept(self) -> Path:
        """Return the file of the last checkpoint that was signed: away from the log, it does not go back with it."""
        return self.key.with_name(f"{self.key.name}.checkpoint")

    @property
    def vkey(self) -> Path:
        """Return the file of the verifier key."""
        return vkey_path(self.key)

    def signing_key(self) -> SigningKey:
        """Return the key, which is made if there is none and nothing was ever signed.

        Raises:
            LedgerError: It cannot be read, is of another log, or is gone although a log stands.
        """
        if self.vkey.exists() and not self.key.exists():
            raise LedgerError(
                f"couldn't find the ledger's key {self.key}: only {self.vkey} is there; restore the key, or, if "
                f"nothing was ever signed with it, remove {self.vkey} and start again"
            )
        if self.key.exists():
            key = SigningKey.load(self.key)
            if key.name != self.origin:
                raise LedgerError(
                    f"couldn't use the ledger's key {self.key}: it is of the log {key.name!r}, ledger.origin says "
                    f"{self.origin!r}; set ledger.origin back, or name another key and folder for another log"
                )
            return key
        for signed in (self.folder / CHECKPOINT, self.folder / "tile", self.kept):
            if signed.exists():
                raise LedgerError(
                    f"couldn't find the ledger's key {self.key}: it is missing, and {signed} shows that something was "
                    "signed with it; restore the key, or name another ledger.uri, ledger.origin and ledger.key"
                )
        made = SigningKey.create(self.key, self.origin)
        _log.info("key made", file=str(self.key), vkey=made.verifier.text())
        return made

    def verifier_key(self) -> VerifierKey:
        """Return the verifier key beside the private one.

        Raises:
            LedgerError: It cannot be read.
        """
        return read_vkey(str(self.vkey))


def path_of(uri: str) -> Path:
    """Return the path of a `file:` address."""
    return Path(re.sub(r"^file:(//)?", "", uri))


def read_vkey(named: str) -> VerifierKey:
    """Return a verifier key from its file, or from its own text.

    Raises:
        LedgerError: It is neither.
    """
    path = Path(named)
    if "+" in named and not path.exists():
        return VerifierKey.parse(named)
    try:
        with path.open("rb") as file:
            data = file.read(_VKEY_BYTES_MAX)
    except OSError as error:
        raise LedgerError(
            f"couldn't read the verifier key {path}: {error.strerror}; name its file, or give its text, with --key"
        ) from error
    return VerifierKey.parse(data.decode(errors="replace"))
