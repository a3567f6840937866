"""Whether the process lives and can serve, and its metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.deps import Meters, ScopedRoute, Store, needs
from api.metrics import CONTENT_TYPE
from api.models import Health
from api.problems import documented

router = APIRouter(route_class=ScopedRoute, tags=["health"])


@router.get(
    "/livez",
    operation_id="is_live",
    summary="Whether the process runs",
    response_model=Health,
    responses=documented(),
)
async def livez() -> JSONResponse:
    """Answer as long as the process can. No key is needed."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    operation_id="is_ready",
    summary="Whether requests can be served",
    response_model=Health,
    responses=documented(),
)
async def readyz(store: Store) -> JSONResponse:
    """Answer 200 if the store can be reached and has this software's version, else 503. No key is needed."""
    await store.ready()
    return JSONResponse({"status": "ok"})


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Get the metrics of this process",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **documented("unauthorized", "forbidden"),
    },
    openapi_extra=needs("read"),
)
async def metrics(store: Store, meters: Meters) -> Response:
    """Get every metric with the prefix `alumicatalyst_api_`, in Prometheus' text format."""
    return Response(meters.text(await store.marks()), headers={"Content-Type": CONTENT_TYPE})


@router.get(
    "/openapi.json",
    operation_id="get_openapi",
    summary="Get this description",
    response_class=JSONResponse,
    responses=documented("unauthorized"),
    openapi_extra=needs(None),
)
async def openapi(request: Request) -> JSONResponse:
    """Get the OpenAPI 3.1 document of this API; any valid key opens it."""
    return JSONResponse(request.app.openapi())
