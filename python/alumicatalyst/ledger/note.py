"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint): the text that is signed, and the keys that sign it.

A note is text, a blank line, and a line for each signature. Whatever does not follow the format to the letter is
refused, so that two readers can never disagree about what was signed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import files
from alumicatalyst.ledger.merkle import HASH_BYTES
from alumicatalyst.ledger.text import TEXT_BYTES_MAX, decode_base64, decode_number, decode_text, encode_base64

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NOTE_BYTES_MAX: Final = TEXT_BYTES_MAX
SIGNATURES_MAX: Final = 100
ED25519: Final = 0x01
"""The type of signature, first byte of an encoded key; other types are other signers' business."""
_KEY_BYTES_MAX: Final = 65_536
_DASH: Final = "— "


@dataclass(frozen=True)
class Checkpoint:
    """What is signed: the log's name, how many entries it has, and the root over them.

    Attributes:
        origin: The log's name; it is the signing key's name too.
        size: Number of entries.
        root: RFC 6962 root over them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text of the checkpoint, three lines."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a checkpoint's text; extension lines, which we never write, are refused.

        Raises:
            LedgerError: It is no checkpoint.
        """
        lines = decode_text(text, "the checkpoint").split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise LedgerError(f"couldn't read the checkpoint: {text[:200]!r} is not three lines: origin, size, root")
        root = decode_base64(lines[2], "the checkpoint's root")
        if len(root) != HASH_BYTES:
            raise LedgerError(f"couldn't read the checkpoint's root: it has {len(root)} bytes, not {HASH_BYTES}")
        return cls(lines[0], decode_number(lines[1], "the checkpoint's size"), root)


@dataclass(frozen=True)
class VerifierKey:
    """A public key with the name that it signs for, all that a verifier needs.

    Attributes:
        name: Name of the key, for a log its origin.
        public: The Ed25519 public key, 32 bytes.
    """

    name: str
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read a verifier key, `name+hex+base64`; surrounding white space is dropped.

        Raises:
            LedgerError: It is none, is of a type other than Ed25519, or its identity does not fit its name and key.
        """
        parts = decode_text(vkey, "the verifier key").strip().split("+", 2)
        if len(parts) != 3:
            raise LedgerError(f"couldn't read the verifier key: {vkey[:200]!r} is not name+id+key")
        name, identity, encoded = parts
        check_name(name)
        key = decode_base64(encoded, "the verifier key")
        if len(key) != 33 or key[0] != ED25519:
            raise LedgerError(f"couldn't read the verifier key of {name}: it is no Ed25519 key")
        made = cls(name, key[1:])
        if made.key_id.hex() != identity:
            raise LedgerError(
                f"couldn't accept the verifier key of {name}: its id is {made.key_id.hex()}, not {identity[:16]!r}; "
                "name, id and key belong together"
            )
        return made

    @property
    def key_id(self) -> bytes:
        """Return the four bytes by which a signature names the key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.public).digest()[:4]

    def text(self) -> str:
        """Return the verifier key as it is handed out, without a line feed."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([ED25519]) + self.public)}"

    def verifies(self, signature: bytes, text: str) -> bool:
        """Return whether a signature (without the key's id) is this key's on a text."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The private key of a log, kept in a file that only its owner may read, with its verifier key beside it.

    Attributes:
        name: Name of the key: the log's origin.
        verifier: The public half.
    """

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        check_name(name)
        self._private = private
        self.name = name
        self.verifier = VerifierKey(name, private.public_key().public_bytes_raw())

    @classmethod
    def create(cls, path: Path, name: str) -> Self:
        """Make a key: `path` holds it (PKCS #8 PEM, mode 0600), `path` + `.vkey` the verifier key.

        Raises:
            LedgerError: There is one already, or the files cannot be written. A key is never replaced: what it signed
                could not be told from a forgery any more.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        made = cls(name, Ed25519PrivateKey.generate())
        pem = made._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with files.reported(f"make the ledger's key {path}", "name a place you may write in ledger.key"):
            for each in (path, vkey_path(path)):
                if os.path.lexists(each):
                    raise LedgerError(
                        f"couldn't make the ledger's key {path}: {each} exists; a key is never replaced, so keep it, "
                        "or move it away if nothing was ever signed with it"
                    )
            folders = files.make_folder(path.parent)
            # The key comes last: with the verifier key alone nothing can have been signed.
            files.put(vkey_path(path), f"{made.verifier.text()}\n".encode())
            files.put(path, pem, mode=0o600)
            files.sync_folders({*folders, path.parent})
        return made

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key and the verifier key beside it.

        Raises:
            LedgerError: One of them is missing or damaged, they do not belong together, or others than the owner may
                read the private one.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        remedy = "restore it, or make one with `alumicatalyst ledger key` if nothing was signed yet"
        with files.reported(f"read the ledger's key {path}", remedy):
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise LedgerError(
                    f"couldn't use the ledger's key {path}: others may read it (mode {stat.S_IMODE(mode):04o}); if "
                    f"nobody did, run `chmod 600 {path}`, else anyone may have signed, and the log needs a new key"
                )
            pem = files.read(path, _KEY_BYTES_MAX)
            vkey = files.read(vkey_path(path), _KEY_BYTES_MAX)
        verifier = VerifierKey.parse(decode_text(vkey, f"the verifier key {vkey_path(path)}"))
        try:
            private = load_pem_private_key(pem, password=None)
        except Exception as error:
            # The library raises several kinds for bytes that are no key; none of their texts may show any of it.
            raise LedgerError(
                f"couldn't read the ledger's key {path}: it is no PEM of a private key; restore it"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise LedgerError(f"couldn't use the ledger's key {path}: it is no Ed25519 key; restore the one that was")
        made = cls(verifier.name, private)
        if made.verifier != verifier:
            raise LedgerError(
                f"couldn't use the ledger's key {path}: {vkey_path(path)} is of another key; restore both"
            )
        return made

    def sign(self, text: str) -> str:
        """Return a note: the text with this key's signature.

        Raises:
            LedgerError: The text does not end with a line feed, or has control characters.
        """
        if not decode_text(text, "the text to sign").endswith("\n"):
            raise LedgerError(f"couldn't sign {text[:80]!r}: it does not end with a line feed")
        signature = self.verifier.key_id + self._private.sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {encode_base64(signature)}\n"


def open_note(note: str | bytes, vkeys: Sequence[VerifierKey]) -> str:
    """Return the text of a note that at least one of the keys signed; signatures of unknown keys are ignored.

    Raises:
        LedgerError: The note is malformed, none of the keys signed it, or a signature of one of them is wrong.
    """
    content = decode_text(note, "the signed note")
    text, blank, block = content.rpartition("\n\n")
    text += "\n"
    if not blank or not block.endswith("\n"):
        raise LedgerError("couldn't read the signed note: it has no block of signatures at its end")
    lines = block[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise LedgerError(f"couldn't read the signed note: it has {len(lines)} signatures, more than {SIGNATURES_MAX}")
    known = {(vkey.name, vkey.key_id): vkey for vkey in vkeys}
    signed = False
    for line in lines:
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        signature = decode_base64(encoded, "a signature of the note")
        if not line.startswith(_DASH) or not space or len(signature) < 5:
            raise LedgerError(f"couldn't read the signed note: {line[:200]!r} is no signature")
        check_name(name)
        vkey = known.get((name, signature[:4]))
        if vkey is None:
            continue
        if not vkey.verifies(signature[4:], text):
            raise LedgerError(f"couldn't accept the signed note: the signature of {name} is not on this text")
        signed = True
    if not signed:
        names = ", ".join(vkey.name for vkey in vkeys)
        raise LedgerError(
            f"couldn't accept the signed note: it is not signed by {names}; use the log's own verifier key"
        )
    return text


def check_name(name: str) -> None:
    """Raise LedgerError unless a name can be a key's: not empty, and without `+`, spaces and control characters."""
    if not name or "+" in name or any(each.isspace() or each < " " for each in name):
        raise LedgerError(
            f"couldn't use the name {name[:200]!r}: a key's name has no `+`, spaces or control characters"
        )


def vkey_path(path: Path) -> Path:
    """Return where the verifier key of a private key's file is kept."""
    return path.with_name(f"{path.name}.vkey")
