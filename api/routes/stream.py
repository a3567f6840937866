"""The live stream of alarms: server-sent events that resume where a client was cut off."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from api.broadcast import MEDIA_TYPE, EventStream
from api.deps import Actor, KeyRing, Live, ScopedRoute, needs
from api.problems import documented
from api.queries import INT64_MAX
from api.security.gate import STREAM_PATH

router = APIRouter(route_class=ScopedRoute, tags=["alarms"])

_EXAMPLE = 'event: alarm\nid: 4211\ndata: {"alarm_id":"5f0c8a4e1b7d92c36a0e4d18f2b7c951","state":"active_unacked"}\n\n'


@router.get(
    STREAM_PATH,
    operation_id="stream_alarms",
    summary="Follow every change of an alarm",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events until the client or the server ends them.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented("unauthorized", "forbidden", "invalid", "too-many-streams"),
    },
    openapi_extra=needs("read"),
)
async def stream(
    live: Live,
    keys: KeyRing,
    actor: Actor,
    last_event_id: Annotated[
        int | SkipJsonSchema[None],
        Header(alias="Last-Event-ID", ge=0, le=INT64_MAX, description="The last id seen; what came after it follows."),
    ] = None,
    after: Annotated[
        int | SkipJsonSchema[None],
        Query(ge=0, le=INT64_MAX, description="The same, for clients that cannot set the header, which goes first."),
    ] = None,
) -> Response:
    """Send an event `alarm` for every change, with the alarm as the change left it and the change's seq as the id.

    Without a place to resume from, the first event is `hello` with the newest id, and what is new follows: open the
    stream first, then load the list, and nothing is missed. With `Last-Event-ID` the stream begins right after that
    change, without a gap and without a double. If that is longer ago than changes are kept, the first event is `reset`
    with the newest id: load the list anew. Where nothing happens a comment comes every 15 seconds.
    """
    return EventStream(live, after if last_event_id is None else last_event_id, lambda: keys.still_valid(actor))
