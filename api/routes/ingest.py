"""What the flow's alert sink posts: tables of alarms, windows and latest values, and what the lake has committed."""

from typing import Annotated

import anyio
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from alumicatalyst.log import get_logger
from api.deps import Actor, Bounds, Meters, ScopedRoute, Store, needs
from api.models import Accepted
from api.problems import Problem, documented
from api.queries import Commit, IngestQuery
from api.store import Kind
from api.table import MEDIA_TYPE, Span, read_table

router = APIRouter(route_class=ScopedRoute, tags=["ingest"])
_log = get_logger(__name__)


@router.post(
    "/v1/ingest/commits",
    operation_id="confirm_commit",
    summary="Say what the lake holds",
    response_model=Accepted,
    responses=documented("unauthorized", "forbidden", "gap", "mismatch", "invalid", "bad-request"),
    openapi_extra=needs("ingest"),
)
async def confirm(store: Store, actor: Actor, commit: Commit) -> JSONResponse:
    """Confirm that the lake holds a partition through `last`: what was provisional up to there no longer is.

    409 `gap`: something before it is not confirmed yet; 409 `mismatch`: the API's transitions are others. Either has
    `committed`, and the sender then posts what the lake holds from there on, with `committed=true`.
    """
    _check_span(commit.follows, commit.last)
    done = await store.commit(commit.partition, commit.follows, commit.last, commit.transitions, commit.sha256)
    _log.debug("commit confirmed", actor=actor.name, partition=commit.partition, mark=done.mark)
    return JSONResponse({"mark": done.mark, "accepted": done.accepted})


@router.post(
    "/v1/ingest/{kind}",
    operation_id="ingest_table",
    summary="Post rows",
    response_model=Accepted,
    responses=documented(
        "unauthorized", "forbidden", "gap", "unsupported-media-type", "invalid", "bad-table", "bad-request"
    ),
    openapi_extra={
        **needs("ingest"),
        "requestBody": {
            "required": True,
            "description": "An uncompressed Arrow IPC stream of the table's schema; it may have no rows.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def ingest(
    request: Request,
    store: Store,
    actor: Actor,
    bounds: Bounds,
    meters: Meters,
    kind: Annotated[Kind, Path(description="Which table.")],
    query: Annotated[IngestQuery, Query()],
) -> JSONResponse:
    """Take the rows of a partition with sequence numbers in (follows, last]. To post them again changes nothing.

    409 `gap`: rows before them are missing; the answer has the mark, and the sender fills the gap from the lake.
    """
    _check_span(query.follows, query.last)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != MEDIA_TYPE:
        raise Problem(
            "unsupported-media-type",
            f"couldn't read a body of the type {content_type[:100] or '(none)'}; send Content-Type: {MEDIA_TYPE}",
        )
    async with request.app.state.tables:
        body = bytearray()
        async for part in request.stream():
            body += part
        span = Span(query.partition, query.follows, query.last)
        rows = await anyio.to_thread.run_sync(read_table, body, kind, span, bounds)
        done = await store.ingest(kind, query.partition, query.follows, query.last, rows, committed=query.committed)
    meters.ingest_rows.labels(kind).inc(done.accepted)
    _log.debug("rows taken", actor=actor.name, kind=kind, partition=query.partition, rows=done.accepted, mark=done.mark)
    return JSONResponse({"mark": done.mark, "accepted": done.accepted})


def _check_span(follows: int, last: int) -> None:
    if last < follows:
        raise Problem("invalid", f"couldn't take rows in ({follows}, {last}]; last is not below follows")
