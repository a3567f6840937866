"""Windows: those that closed lately; the lake has them all."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from api.deps import ScopedRoute, Store, needs
from api.models import WindowPage
from api.problems import documented
from api.queries import WindowQuery
from api.store import WindowFilter

router = APIRouter(route_class=ScopedRoute, tags=["series"])


@router.get(
    "/v1/windows",
    operation_id="list_windows",
    summary="List closed windows, newest start first",
    response_model=WindowPage,
    responses=documented("unauthorized", "forbidden", "invalid", "bad-cursor"),
    openapi_extra=needs("read"),
)
async def list_windows(store: Store, query: Annotated[WindowQuery, Query()]) -> JSONResponse:
    """List windows with their statistics, for as many days as the settings keep them here."""
    where = WindowFilter(query.device, query.metric, query.window_name, query.from_, query.to)
    page = await store.windows(where, limit=query.limit, cursor=query.cursor)
    return JSONResponse({"items": page.items, "next": page.next})
