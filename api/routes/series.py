"""Series: the newest value of each."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from api.deps import ScopedRoute, Store, needs
from api.models import SeriesPage
from api.problems import documented
from api.queries import SeriesQuery
from api.store import SeriesFilter

router = APIRouter(route_class=ScopedRoute, tags=["series"])


@router.get(
    "/v1/series",
    operation_id="list_series",
    summary="List the newest value of each series",
    response_model=SeriesPage,
    responses=documented("unauthorized", "forbidden", "invalid", "bad-cursor"),
    openapi_extra=needs("read"),
)
async def list_series(store: Store, query: Annotated[SeriesQuery, Query()]) -> JSONResponse:
    """List the newest value of each series by event time, ordered by device and metric."""
    page = await store.series(SeriesFilter(query.device, query.metric), limit=query.limit, cursor=query.cursor)
    return JSONResponse({"items": page.items, "next": page.next})
