"""Text of the ledger's formats, read only as it is to be written: UTF-8, canonical base64, plain numbers."""

from __future__ import annotations

import base64
import re
from typing import Final

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger.merkle import SIZE_MAX

TEXT_BYTES_MAX: Final = 1 << 20
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def decode_base64(text: str, what: str) -> bytes:
    """Decode base64 that is written in the one canonical way.

    Raises:
        LedgerError: It is not: another alphabet, white space, missing padding, or spare bits that are not zero.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if base64.b64encode(data).decode() != text:
        raise LedgerError(f"couldn't read {what}: {text[:80]!r} is not canonical base64")
    return data


def encode_base64(data: bytes) -> str:
    """Encode bytes as the formats of the ledger write them."""
    return base64.b64encode(data).decode()


def decode_number(text: str, what: str) -> int:
    """Read a decimal number from 0 to 2^63-1 without sign or leading zeros.

    Raises:
        LedgerError: It is written in another way, or too great.
    """
    number = int(text) if _DIGITS.fullmatch(text) else SIZE_MAX + 1
    if number > SIZE_MAX:
        raise LedgerError(f"couldn't read {what}: {text[:80]!r} is no number from 0 to 2^63-1")
    return number


def decode_text(data: bytes | str, what: str, limit: int = TEXT_BYTES_MAX) -> str:
    """Return text that is UTF-8, within a limit of bytes, and has no control characters but line feeds.

    Raises:
        LedgerError: It is not.
    """
    try:
        raw = data.encode() if isinstance(data, str) else data
        text = raw.decode()
    except UnicodeError as error:
        raise LedgerError(f"couldn't read {what}: it is not UTF-8 text") from error
    if len(raw) > limit:
        raise LedgerError(f"couldn't read {what}: it has {len(raw)} bytes, more than {limit}")
    if any(character < " " and character != "\n" for character in text):
        raise LedgerError(f"couldn't read {what}: it holds a control character")
    return text
