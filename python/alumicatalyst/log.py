"""Structured logging: short events with key=value for people, or one JSON object a line; bounded, without secrets.

Everything goes to standard error, so that what a command prints for a machine stays clean. Until `configure` is called
the standard library's defaults hold (warnings and worse), as a program that uses this package as a library expects.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["console", "json"]

VALUE_CHARS_MAX = 2_000
KEYS_MAX = 40
_TRACEBACK_CHARS_MAX = 8_000
_ALWAYS = frozenset({"event", "level", "logger", "timestamp", "exception", "keys_dropped"})

_SECRET_KEY = re.compile(r"(?i)(connection_string|secret|password|passwd|credential|authorization|token|sas|(^|_)key$)")
# The parts of Azure's connection strings and signed addresses that grant access, wherever they stand in a text.
_SECRET_TEXT = re.compile(
    r"(?i)\b((?:SharedAccessKey|AccountKey|SharedAccessSignature)\s*=\s*|sig=|Bearer\s+)[^\s;&\"',]+"
)
_HIDDEN = "***"


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger for a module.

    Example:
        >>> _log = get_logger(__name__)
        >>> _log.debug("lake committed", table="readings", rows=10)
    """
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            # Here as well as in the handler: a handler of somebody else's sees no secret either.
            structlog.processors.format_exc_info,
            bound_and_redact,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


def configure(log_format: LogFormat = "console", level: int = logging.INFO) -> None:
    """Send this process's log to standard error; a second call replaces the first.

    Args:
        log_format: "console" for people, "json" for one object a line.
        level: The least severe level shown. Azure's and other libraries' own loggers show warnings and worse.
    """
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=_text, ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                bound_and_redact,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for former in [each for each in root.handlers if isinstance(each, _StandardError)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for ours in ("alumicatalyst", "flows"):
        logging.getLogger(ours).setLevel(level)


def bound_and_redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut long values and hide secrets: by the name of their key, and by their form in any text."""
    # An event may carry any number of values, but its own name, level and time are never the ones left out.
    keys = sorted(event, key=lambda key: key not in _ALWAYS)
    bounded: dict[str, Any] = {key: _bounded(key, event[key]) for key in keys[:KEYS_MAX]}
    if len(event) > KEYS_MAX:
        bounded["keys_dropped"] = len(event) - KEYS_MAX + event.get("keys_dropped", 0)
    return bounded


def _bounded(key: str, value: object) -> object:
    if _SECRET_KEY.search(key):
        return _HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if key == "exception":
        # The end of a traceback says what happened, its beginning only where it started.
        return _text(value)[-_TRACEBACK_CHARS_MAX:]
    return _cut(_text(value))


def redact(text: str) -> str:
    """Hide the keys and signatures in a text, such as an SDK's error that repeats a connection string."""
    return _SECRET_TEXT.sub(rf"\g<1>{_HIDDEN}", text)


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        # Payloads are other people's bytes: shown escaped, and never whole.
        return redact(repr(bytes(value[:VALUE_CHARS_MAX])))
    return redact(str(value))


def _cut(text: str) -> str:
    if len(text) <= VALUE_CHARS_MAX:
        return text
    return f"{text[:VALUE_CHARS_MAX]}... ({len(text)} characters)"


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment, as tests and live displays replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _value: TextIO) -> None:
        raise AttributeError("the log always goes to standard error")
