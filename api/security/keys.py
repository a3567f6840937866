"""API keys: how one is made, and how a request's key is known again."""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from api.problems import Problem
from api.security.limits import Buckets, Limits
from api.store import HotStore, Key, Scope

_KEY: Final = re.compile(r"alu_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
# Compared with when there is no such key, so that an unknown id takes as long as a wrong secret.
_NOBODY: Final = bytes(32)
_KNOWN_MAX: Final = 10_000


class NewKey(NamedTuple):
    """A key that was just made: the text is shown once and never stored."""

    id: str
    text: str
    sha256: bytes


class Principal(NamedTuple):
    """Who makes a request."""

    id: str
    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class _Refusal:
    description: str
    detail: str


_MISSING = _Refusal("", "it has no key; send Authorization: Bearer <key>")
_MALFORMED = _Refusal("the key is malformed", "the key is malformed; send Authorization: Bearer alu_<id>_<secret>")
_UNKNOWN = _Refusal("the key is unknown", "the key is unknown; make one with: python -m api keys create")
_EXPIRED = _Refusal("the key has expired", "the key has expired; make another with: python -m api keys create")
_REVOKED = _Refusal("the key is revoked", "the key is revoked; make another with: python -m api keys create")


def new_key() -> NewKey:
    """Make a key of 256 random bits."""
    id_ = secrets.token_hex(8)
    text = f"alu_{id_}_{secrets.token_urlsafe(32)}"
    return NewKey(id_, text, digest(text))


def digest(text: str) -> bytes:
    """Return what is stored of a key. It needs no salt or stretching: it is random, not chosen by a person."""
    return hashlib.sha256(text.encode()).digest()


class Keys:
    """Knows keys again. It asks the store for each request, so that a revoked key ends at once.

    Failures are limited per client. One that is over its limit is refused before the store is asked, but not if its
    key was good before: behind a proxy all clients have one address, and none may lock out the others.
    """

    def __init__(
        self, store: HotStore, limits: Limits, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._now = now
        self._failures = Buckets(limits.failures_per_s, limits.failures_burst)
        self._known: OrderedDict[str, None] = OrderedDict()

    async def identify(self, authorization: str | None, client: str) -> Principal:
        """Return who sends this header.

        Args:
            authorization: The header's value.
            client: Who is counted for a failure.

        Raises:
            Problem: 401 with the reason, or 429 after too many failures.
        """
        refusal = _MISSING
        if authorization is not None:
            scheme, _, text = authorization.partition(" ")
            found = _KEY.fullmatch(text.strip()) if scheme.lower() == "bearer" else None
            if found:
                if found[1] not in self._known:
                    self._refuse_flood(client)
                key = await self._store.key(found[1])
                same = hmac.compare_digest(digest(found[0]), key.sha256 if key else _NOBODY)
                if key and same:
                    ended = self._ended(key)
                    if ended is None:
                        self._remember(key.id)
                        return Principal(key.id, key.name, key.scopes)
                    refusal = ended
                else:
                    refusal = _UNKNOWN
            else:
                refusal = _MALFORMED
        self._refuse_flood(client)
        self._failures.take(client)
        challenge = 'Bearer realm="alumicatalyst"'
        if refusal.description:
            challenge += f', error="invalid_token", error_description="{refusal.description}"'
        raise Problem(
            "unauthorized", f"couldn't take the request: {refusal.detail}", headers={"WWW-Authenticate": challenge}
        )

    async def still_valid(self, principal: Principal) -> bool:
        """Return whether a key that was good when a stream began is good now."""
        key = await self._store.key(principal.id)
        return key is not None and self._ended(key) is None

    def _ended(self, key: Key) -> _Refusal | None:
        if key.revoked is not None:
            return _REVOKED
        return _EXPIRED if key.expires is not None and key.expires <= self._now() else None

    def _refuse_flood(self, client: str) -> None:
        wait = self._failures.wait(client)
        if wait:
            raise Problem(
                "rate-limited",
                f"couldn't take the request: too many without a valid key came from your address; wait {wait} s",
                headers={"Retry-After": str(wait)},
            )

    def _remember(self, key_id: str) -> None:
        self._known[key_id] = None
        self._known.move_to_end(key_id)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
