"""Which files a replay was given and how to read them, and whether that still goes with what was stored before."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, Final, cast

from alumicatalyst.errors import IncarnationChanged, InputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_FORMATS: Final = (".csv", ".tsv", ".txt", ".ndjson", ".jsonl", ".json", ".parquet")
_HASH_BYTES: Final = 1 << 20
_SHOWN_DIGITS: Final = 12
_ENTRY: Final = {"name": str, "size": int, "sha256": str}


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file as it was when the replay began.

    Attributes:
        path: Where it is.
        name: Its name without the folder.
        stem: The name without what says its format.
        kind: The ending that says its format.
        size: Bytes.
        sha256: Its digest.
    """

    path: Path
    name: str
    stem: str
    kind: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> InputFile:
        """Look at a file, and read it once for its digest.

        Raises:
            InputError: It is missing or of an unknown kind.
        """
        compressed = path.name.lower().endswith(".gz")
        stem = path.name[: -len(".gz")] if compressed else path.name
        kind = next((kind for kind in _FORMATS if stem.lower().endswith(kind)), None)
        if kind is None or (compressed and kind == ".parquet"):
            raise InputError(
                f"couldn't choose how to read {path}: its name ends in none of {', '.join(_FORMATS)} "
                "(and .gz but for Parquet)"
            )
        digest = hashlib.sha256()
        size = 0
        try:
            with path.open("rb") as file:
                while part := file.read(_HASH_BYTES):
                    digest.update(part)
                    size += len(part)
        except OSError as error:
            raise InputError(f"couldn't read {path}: {error.strerror}; check the path") from None
        return cls(path, path.name, stem[: -len(kind)], kind, size, digest.hexdigest())

    def open(self) -> IO[bytes]:
        """Open it, decompressed."""
        return cast("IO[bytes]", gzip.open(self.path)) if self.path.suffix.lower() == ".gz" else self.path.open("rb")

    def entry(self) -> dict[str, Any]:
        """Return what the journal keeps of it."""
        return {"name": self.name, "size": self.size, "sha256": self.sha256}


def offset_text(offset: timedelta | None) -> str | None:
    """Return an offset from UTC in its one spelling: `Z` or `+02:00`."""
    if not offset:
        return None if offset is None else "Z"
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def verify_input(previous: Mapping[str, Any], files: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    """Check that an input stores no row twice or otherwise than an earlier one did.

    Args:
        previous: The earlier input, as the journal has it: {"files", "options"}.
        files: The entries of this one's files.
        options: How this one reads them.

    Raises:
        InputError: It is to be read in another way.
        IncarnationChanged: A file is missing, renamed, changed, or in another place.
        SourceError: The journal's row does not say what there was.
    """
    earlier, held = previous.get("files"), previous.get("options")
    if not isinstance(held, dict) or not isinstance(earlier, list) or not all(map(_is_entry, earlier)):
        raise SourceError(
            "couldn't compare the files with those of the last run: the journal's input names none; restore the "
            "lake's journal"
        )
    _verify_options(held, options)
    _verify_files(earlier, files)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in _ENTRY.items())


def _verify_options(previous: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    for name, now in current.items():
        earlier = previous.get(name)
        if earlier != now:
            option = "--" + name.replace("_", "-")
            was = "was not given" if earlier is None else f"was {earlier}"
            remedy = f"leave {option} out" if earlier is None else f"give {option} {earlier}"
            raise InputError(
                f"couldn't continue the replay: {option} {was} and is {'not given' if now is None else now}, so rows "
                f"that are stored would be stored again in another way; {remedy}, or store everything anew under "
                "another --name"
            )


def _verify_files(previous: Sequence[Mapping[str, Any]], current: Sequence[Mapping[str, Any]]) -> None:
    for ordinal, earlier in enumerate(previous):
        was = f"couldn't continue the replay: file {ordinal + 1} was {earlier['name']}"
        if ordinal >= len(current):
            raise IncarnationChanged(
                f"{was} and is missing; name the same files in the same order, new ones behind them"
            )
        now = current[ordinal]
        if now["sha256"] == earlier["sha256"] and now["name"] != earlier["name"]:
            raise IncarnationChanged(
                f"{was} and is now named {now['name']}, with the same content; give it back its name, which decides "
                "how it is read"
            )
        if now["sha256"] != earlier["sha256"]:
            what = "has changed" if now["name"] == earlier["name"] else f"is now {now['name']}"
            raise IncarnationChanged(
                f"{was} ({earlier['size']} bytes, SHA-256 {earlier['sha256'][:_SHOWN_DIGITS]}) and {what} "
                f"({now['size']} bytes, {now['sha256'][:_SHOWN_DIGITS]}); name the same files with the same content in "
                "the same order and put new rows into a new file behind them, or store everything anew under another "
                "--name"
            )
