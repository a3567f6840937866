"""The settings of the hot store and its API, and what an address may hold."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from alumicatalyst.settings.secret import Secret
from alumicatalyst.settings.section import Count, Section


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _api_address(value: str) -> str:
    """Accept an address without anything secret in it, over which a key can be sent."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        _ = parts.port  # Parsed, and so checked, only when asked for.
    except ValueError:
        raise ValueError("it is not an address; allowed is such as https://api.example.com") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it is not an address of HTTP; allowed is such as https://api.example.com")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("it has more than scheme, host, port and path; the key has a setting of its own, api.key")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise ValueError("http to another machine would show the key to the network between; use https")
    return value.rstrip("/")


def _database_address(value: str) -> str:
    """Accept an address without a password, or the reference to one with it."""
    if value.startswith(("env:", "file:")):
        return Secret(value)
    scheme, _, rest = value.partition("://")
    if scheme not in {"sqlite", "postgresql"} or not rest or (scheme == "sqlite" and len(rest) < 2):
        raise ValueError(
            "allowed are sqlite:///PATH, postgresql://USER@HOST/DATABASE, and env:NAME or file:PATH for an address "
            "that holds a password (the value is not repeated here)"
        )
    if re.search(r":[^/@]*@|[?&]password=", rest):
        raise ValueError(
            "an address with a password is given by reference, never itself: env:NAME or file:PATH (the value is not "
            "repeated here)"
        )
    return value


class ApiSettings(Section):
    """The hot store and its API: where it serves, and where the flow posts."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address at which the API listens. 127.0.0.1 is this machine only; with 0.0.0.0 every machine "
        "that reaches this one can try keys, in plain text, so put a proxy with TLS in front. One that this machine "
        "does not have stops the API at start.",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=8_040,
        description="The port of the API; 0 takes a free one. One in use stops the API at start; after a change "
        "api.url has to follow, or the flow posts into nothing.",
    )
    url: Annotated[str, AfterValidator(_api_address)] = Field(
        default="",
        description="Where the flow posts alarms, windows and latest values, as in http://127.0.0.1:8040; empty: "
        "nowhere. With a wrong one the flow goes on and its log and metrics say so; what the API misses comes from the "
        "lake later. http to another machine is refused, as it would show the key.",
    )
    key: Secret = Field(
        default=Secret("file:var/keys/ingest"),
        description="Reference to the API key with the scope ingest that the flow posts with: env:NAME or file:PATH. "
        "One that cannot be read stops the flow at start (exit code 2); one that the API refuses only keeps the API "
        "empty, visible in log and metrics, and is read again now and then.",
    )
    ca_file: str = Field(
        default="",
        description="A PEM file of certificate authorities for an API with a private certificate; empty: the usual "
        "public ones. One that cannot be read stops the flow at start; a wrong one only keeps the API empty. "
        "Verification is never switched off.",
    )
    queue_rows_max: Count = Field(
        default=100_000,
        description="Rows of each kind that wait in the flow for the API. Beyond it they are dropped, counted, and "
        "read from the lake when the API answers again. Too many cost memory (a few hundred bytes a row), too few "
        "make a short pause of the API delay alarms until the lake's next commit.",
    )
    database_url: Annotated[str, AfterValidator(_database_address)] = Field(
        default="sqlite:///var/api.sqlite",
        description="The hot store: sqlite:///PATH for one API process, postgresql://USER@HOST/DATABASE where several "
        "share it, or env:NAME / file:PATH for an address that holds a password. An empty one is filled from the lake "
        "again, acknowledgements aside: those exist only here, so back it up. An unreachable one makes the API "
        "answer 503.",
    )
    retention_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] = Field(
        default=7.0,
        description="Days for which the hot store keeps closed windows and the changes that a live stream can go on "
        "from. Alarms stay as long as they are active or not acknowledged, and 90 days more. Longer makes the "
        "database grow, shorter makes clients that were away reload; the lake keeps everything.",
    )

    def reveal_database_url(self) -> str:
        """Return the address itself, read from where `database_url` refers to.

        Raises:
            SettingsError: The variable or file is missing, empty or too large.
        """
        return self.database_url.reveal() if isinstance(self.database_url, Secret) else self.database_url
