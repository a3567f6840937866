"""The two request-and-answer services of a connection: `$cbs` takes tokens, `$management` describes hubs."""

from __future__ import annotations

import base64
import hmac
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from alumicatalyst.testing.eventhubs import amqp
from alumicatalyst.testing.eventhubs.decode import decode, sections
from alumicatalyst.testing.eventhubs.model import Namespace, path_of
from alumicatalyst.testing.eventhubs.partition import UNAUTHORIZED, HubError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGGER = logging.getLogger(__name__)

NAMES: Final = ("$cbs", "$management")
POLICY: Final = "RootManageSharedAccessKey"
_SIGNED: Final = "SharedAccessSignature "
_SIGNED_KIND: Final = "servicebus.windows.net:sastoken"
_TOKEN_CHARACTERS_MAX: Final = 4096


def check_token(key: str, token: Any, kind: Any) -> tuple[str, float] | None:
    """Say what a shared access signature gives access to, or None if it is no good.

    Args:
        key: The key that it must be signed with.
        token: `SharedAccessSignature sr=...&sig=...&se=...`, as it came.
        kind: The type of token that the client claims.

    Returns:
        (the hub in lower case, or "" for the whole namespace; seconds since 1970 when it expires).
    """
    if kind != _SIGNED_KIND or not isinstance(token, str) or not token.startswith(_SIGNED):
        return None
    if len(token) > _TOKEN_CHARACTERS_MAX:
        return None
    fields = dict(part.partition("=")[::2] for part in token[len(_SIGNED) :].split("&"))
    try:
        resource, signature, expiry = fields["sr"], unquote_plus(fields["sig"]), int(fields["se"])
    except (KeyError, ValueError):
        return None
    # The resource is signed in its quoted form, exactly as it stands in the token.
    digest = hmac.digest(key.encode(), f"{resource}\n{expiry}".encode(), "sha256")
    if not hmac.compare_digest(base64.b64encode(digest), signature.encode("utf-8", "replace")):
        return None
    return (path_of(unquote_plus(resource))[0].lower(), float(expiry)) if expiry > time.time() else None


class Services:
    """Answers requests of one connection, and remembers what its tokens allow.

    Args:
        namespace: What is described.
        key: The key of signatures; None: everybody may do everything.
        peer: Who the client is, for the log.
    """

    def __init__(self, namespace: Namespace, key: str | None, peer: object) -> None:
        self._namespace = namespace
        self._key = key
        self._peer = peer
        self._granted: dict[str, float] = {}

    def authorize(self, hub: str) -> None:
        """Refuse, with a HubError, a hub that no token of this connection is good for."""
        if self._key is None:
            return
        if time.time() >= max(self._granted.get(hub.lower(), 0.0), self._granted.get("", 0.0)):
            raise HubError(UNAUTHORIZED, "Unauthorized access. 'Send' or 'Listen' claims are required.")

    def answer(self, service: str, request: bytes) -> bytes:
        """Encode the reply to a request; DecodeError if it is not one."""
        message_id, properties, value = None, {}, None
        for code, _, value_at, end in sections(request):
            if code not in {amqp.PROPERTIES, amqp.APPLICATION_PROPERTIES, amqp.VALUE}:
                continue
            found, _ = decode(request, value_at, end)
            if code == amqp.PROPERTIES:
                message_id = found[0] if isinstance(found, list) and found else None
            elif code == amqp.APPLICATION_PROPERTIES:
                properties = found if isinstance(found, dict) else {}
            else:
                value = found
        status, text, body = self._put_token(properties, value) if service == "$cbs" else self._manage(properties)
        return b"".join(
            (
                amqp.described(amqp.PROPERTIES, amqp.encode_list([None] * 5 + [message_id] + [None] * 7)),
                amqp.described(
                    amqp.APPLICATION_PROPERTIES, amqp.encode({"status-code": status, "status-description": text})
                ),
                amqp.described(amqp.VALUE, amqp.encode(body)),
            )
        )

    def _put_token(self, request: Mapping[Any, Any], token: Any) -> tuple[int, str, Any]:
        if request.get("operation") != "put-token":
            return 400, "The operation is not supported.", None
        if self._key is not None:
            granted = check_token(self._key, token, request.get("type"))
            if granted is None:
                _LOGGER.warning("refused a token from %s: wrong or expired signature", self._peer)
                return 401, "InvalidSignature: The token has an invalid signature.", None
            self._granted[granted[0]] = granted[1]
        return 202, "Accepted", None

    def _manage(self, request: Mapping[Any, Any]) -> tuple[int, str, Any]:
        try:
            self.authorize(str(request.get("name")))
        except HubError as error:
            return 401, error.description, None
        return self._namespace.manage(request)
