"""Checks the shared access signatures that clients put on a connection."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any, Final
from urllib.parse import unquote_plus

from alumicatalyst.testing.eventhubs.model import path_of

POLICY: Final = "RootManageSharedAccessKey"
SAS_TOKEN: Final = "servicebus.windows.net:sastoken"
TOKEN_CHARACTERS_MAX: Final = 4096


def check_token(key: str, token: Any, kind: Any) -> tuple[str, float] | None:
    """What a token gives access to, or None if it is no good.

    Args:
        key: The key that the signature must be made with.
        token: `SharedAccessSignature sr=...&sig=...&se=...`, as it came.
        kind: The type of token that the client claims.

    Returns:
        (the hub in lower case, or "" for the whole namespace; seconds since 1970 when it expires).
    """
    prefix = "SharedAccessSignature "
    if kind != SAS_TOKEN or not isinstance(token, str) or not token.startswith(prefix):
        return None
    if len(token) > TOKEN_CHARACTERS_MAX:
        return None
    fields = dict(part.partition("=")[::2] for part in token[len(prefix) :].split("&"))
    try:
        resource, signature, expiry = fields["sr"], unquote_plus(fields["sig"]), int(fields["se"])
    except (KeyError, ValueError):
        return None
    # The resource is signed in its quoted form, exactly as it stands in the token.
    text = f"{resource}\n{expiry}".encode()
    expected = base64.b64encode(hmac.digest(key.encode(), text, "sha256"))
    if not hmac.compare_digest(expected, signature.encode("utf-8", "replace")) or expiry < time.time():
        return None
    return path_of(unquote_plus(resource))[0].lower(), float(expiry)
