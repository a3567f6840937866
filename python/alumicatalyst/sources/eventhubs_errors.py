"""Tells the errors of the azure-eventhub SDK apart: what waiting mends, what nothing mends, what was no connection."""

from __future__ import annotations

import re
import ssl
from typing import Final

from alumicatalyst.errors import SourceError

# Conditions that no waiting mends, without the part before the colon.
_FATAL: Final = frozenset(
    (
        "argument-error",
        "argument-out-of-range",
        "auth-failed",
        "entity-disabled",
        "link:stolen",
        "not-allowed",
        "not-found",
        "not-implemented",
        "unauthorized-access",
    )
)
# What $management says of a request that it will never grant is found in the text alone.
_REFUSED: Final = re.compile(r"Status code: (4\d\d)")
_PASSING: Final = frozenset(("408", "429"))
STOLEN: Final = "link:stolen"


def condition_of(error: BaseException) -> str:
    """The AMQP condition of an SDK error without the part before its first colon; "" if it has none."""
    condition = getattr(error, "condition", None) or getattr(error, "error", None)
    condition = getattr(condition, "value", condition)
    if isinstance(condition, bytes):
        condition = condition.decode("utf-8", "replace")
    if not isinstance(condition, str):
        return ""
    return condition.partition(":")[2] if condition.startswith(("amqp:", "com.microsoft:")) else condition


def is_fatal(error: BaseException) -> bool:
    """Whether trying again cannot help."""
    from azure.eventhub._pyamqp.error import TokenAuthFailure
    from azure.eventhub.exceptions import AuthenticationError

    if isinstance(error, TokenAuthFailure):
        return error.status_code in (401, 403, 404)
    if isinstance(error, AuthenticationError):
        # An expired token or a timeout is internal-error; what a server says of a token is not.
        return condition_of(error) != "internal-error"
    cause = getattr(error, "inner_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return True
    refused = _REFUSED.search(str(error))
    if refused is not None:
        return refused[1] not in _PASSING
    return isinstance(error, SourceError) or condition_of(error) in _FATAL


def is_transport(error: BaseException) -> bool:
    """Whether the failure is one of connections, which come and go, and not of what came over them."""
    from azure.eventhub._pyamqp.error import AMQPException
    from azure.eventhub.exceptions import EventHubError

    return isinstance(error, AMQPException | OSError | TimeoutError) or (
        isinstance(error, EventHubError) and type(error) is not EventHubError
    )
