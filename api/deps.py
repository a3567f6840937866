"""What routes share: the scope that each one states, who asks, and the objects of the app."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.broadcast import Broadcaster
from api.metrics import Metrics
from api.problems import Problem
from api.security.gate import EXCHANGE, OPEN_PATHS, Exchange
from api.security.keys import Keys, Principal
from api.security.limits import Limits
from api.store import HotStore, Scope

SECURITY_SCHEME: Final = "key"
_ANY: Final = "any"


def needs(scope: Scope | None) -> dict[str, Any]:
    """Return what a route hands to `openapi_extra` to say which scope it needs; None: any valid key will do."""
    return {"security": [{SECURITY_SCHEME: [scope] if scope else []}], "x-scope": scope or _ANY}


class ScopedRoute(APIRoute):
    """A route that checks the scope of the key before it reads the request.

    FastAPI parses a body before it asks a dependency, so a dependency would answer 422 to somebody who is to get 403.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind the check. A route that states no scope cannot be made."""
        handle = super().get_route_handler()
        scope = (self.openapi_extra or {}).get("x-scope")
        if scope is None and self.path not in OPEN_PATHS:
            raise TypeError(f"couldn't add the route {self.path}: it states no scope; give it openapi_extra=needs(...)")

        async def handle_scoped(request: Request) -> Response:
            if scope not in {None, _ANY} and scope not in who(request).scopes:
                has = ", ".join(sorted(who(request).scopes)) or "none"
                raise Problem(
                    "forbidden",
                    f"couldn't take the request: it needs the scope {scope} and the key has {has}; use another key",
                )
            return await handle(request)

        return handle_scoped


def who(request: Request) -> Principal:
    """Return who makes a request that the gate let in."""
    principal = cast("Exchange", request.scope[EXCHANGE]).principal
    if principal is None:
        raise Problem("unauthorized", "couldn't take the request: it has no key; send Authorization: Bearer <key>")
    return principal


def _store(request: Request) -> HotStore:
    return cast("HotStore", request.app.state.store)


def _limits(request: Request) -> Limits:
    return cast("Limits", request.app.state.limits)


def _metrics(request: Request) -> Metrics:
    return cast("Metrics", request.app.state.metrics)


def _broadcaster(request: Request) -> Broadcaster:
    return cast("Broadcaster", request.app.state.broadcaster)


def _keys(request: Request) -> Keys:
    return cast("Keys", request.app.state.keys)


Actor = Annotated[Principal, Depends(who)]
Store = Annotated[HotStore, Depends(_store)]
Bounds = Annotated[Limits, Depends(_limits)]
Meters = Annotated[Metrics, Depends(_metrics)]
Live = Annotated[Broadcaster, Depends(_broadcaster)]
KeyRing = Annotated[Keys, Depends(_keys)]
