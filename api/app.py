"""Makes the application: the routes behind the gate, every error as a problem, and what runs beside the requests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from alumicatalyst.log import get_logger
from alumicatalyst.settings import Settings
from api.broadcast import Broadcaster
from api.deps import SECURITY_SCHEME
from api.metrics import Metrics
from api.problems import Problem, ProblemDocument, of_http, of_store
from api.queries import INT64_MAX
from api.routes import ROUTERS
from api.security.gate import EXCHANGE, Gate
from api.security.keys import Keys
from api.security.limits import Limits
from api.store import HotStore, Retention, StoreError

_ERRORS_MAX: Final = 20
_log = get_logger(__name__)
_TAGS: Final = [
    {"name": "alarms", "description": "What is wrong in the plant, and who has seen it."},
    {"name": "series", "description": "Newest values and closed windows."},
    {"name": "ingest", "description": "What the flow posts; not for people."},
    {"name": "ledger", "description": "The evidence."},
    {"name": "health", "description": "The process itself."},
]


def create_app(settings: Settings, store: HotStore, limits: Limits | None = None) -> FastAPI:
    """Return the application over an open store, which the caller closes.

    Args:
        settings: The sections `api` and `ledger` are read.
        store: Of the event loop that serves the application.
        limits: Other bounds than the usual ones.
    """
    limits = limits or Limits()
    meters = Metrics()
    broadcaster = Broadcaster(store, limits, meters)
    keys = Keys(store, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        store.on_change = broadcaster.wake
        beside = [
            asyncio.create_task(broadcaster.run(), name="broadcast"),
            asyncio.create_task(_prune(store, settings, limits), name="prune"),
        ]
        try:
            yield
        finally:
            broadcaster.close()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            store.on_change = None

    app = _Application(
        title="AlumiCatalyst",
        summary="Alarms, newest values and closed windows of a plant.",
        description="Every request but /livez and /readyz needs `Authorization: Bearer <key>`. Lists are "
        "`{items, next}`, times are RFC 3339 in UTC, and every error is a problem (RFC 9457) whose `detail` says what "
        "to do next.",
        version=version("alumicatalyst"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        # The description is a route behind the gate; pages that load scripts from elsewhere are not served.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.store = store
    app.state.limits = limits
    app.state.metrics = meters
    app.state.broadcaster = broadcaster
    app.state.keys = keys
    app.state.ledger_uri = settings.ledger.uri
    app.state.tables = asyncio.Semaphore(limits.tables_in_work_max)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Gate, keys=keys, limits=limits, metrics=meters)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(StoreError, _on_store_error)
    return app


class _Application(FastAPI):
    """Describes itself with our problems where FastAPI would describe its own errors."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs", {}))
            schemas["Problem"] = problem
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            document["components"]["securitySchemes"] = {
                SECURITY_SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "alu_<id>_<secret>",
                    "description": "A key with some of the scopes ingest, read, operate: `python -m api keys create`.",
                }
            }
            _restore_bounds(document)
            self.openapi_schema = document
        return self.openapi_schema


def _restore_bounds(node: Any) -> None:
    """Make the bounds of whole numbers whole again: FastAPI has them as floats, which the largest ones are not."""
    if isinstance(node, dict):
        if node.get("type") == "integer":
            for bound in {"minimum", "maximum"} & node.keys():
                node[bound] = min(int(node[bound]), INT64_MAX)
        for value in node.values():
            _restore_bounds(value)
    elif isinstance(node, list):
        for value in node:
            _restore_bounds(value)


async def _prune(store: HotStore, settings: Settings, limits: Limits) -> None:
    """Remove now and then what is older than the settings keep."""
    days = settings.api.retention_days
    while True:
        try:
            await store.prune(now=datetime.now(UTC), retention=Retention(windows_days=days, changes_days=days))
        except StoreError as error:
            _log.warning("old rows stay for now", error=str(error))
        except Exception:  # noqa: BLE001 -- tried again later, and only room is lost meanwhile
            _log.exception("old rows stay for now")
        await anyio.sleep(limits.prune_s)


def _answer(request: Request, problem: Problem) -> Response:
    return problem.response(request.scope[EXCHANGE].request_id)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(request, of_http(error, method=request.method, path=request.url.path))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """List what breaks the rules, without the values: they may be anything, and long."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"at": _place(fault["loc"]), "message": str(fault["msg"])[:300]} for fault in error.errors()[:_ERRORS_MAX]
    ]
    first = f"{faults[0]['at']}: {faults[0]['message']}" if faults else "unknown"
    detail = f"couldn't take the request: {first}; correct what errors lists, see GET /openapi.json"
    return _answer(request, Problem("invalid", detail, more={"errors": faults}))


def _place(parts: Sequence[object]) -> str:
    """Return where a fault is, as its sender knows the place: what follows a parameter's name is pydantic's own."""
    known = parts if parts and parts[0] == "body" else parts[:2]
    return ".".join(str(part) for part in known)[:200]


async def _on_store_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    problem = of_store(error)
    if problem.slug == "busy":
        _log.warning("the store cannot answer", error=str(error))
    return _answer(request, problem)
