"""Alarms: the list, one, its history, and an operator's acknowledgement."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import JSONResponse
from pydantic import StringConstraints
from pydantic.json_schema import SkipJsonSchema

from alumicatalyst.log import get_logger
from api.deps import Actor, ScopedRoute, Store, needs
from api.models import Alarm, AlarmId, AlarmPage, History
from api.problems import Problem, documented
from api.queries import Acknowledge, AlarmQuery
from api.store import AlarmFilter

router = APIRouter(route_class=ScopedRoute, tags=["alarms"])
_log = get_logger(__name__)

_AlarmPath = Annotated[
    AlarmId,
    Path(description="The alarm's id.", examples=["5f0c8a4e1b7d92c36a0e4d18f2b7c951"]),
]
_IdempotencyKey = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")] | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="Made up by the client, anew for each thing it does. A retry with the same key and body gets the "
        "first answer again instead of 409.",
        examples=["0b7e9f5c-2d1a-4e0f-9d57-3f1f3c5f7a10"],
    ),
]


@router.get(
    "/v1/alarms",
    operation_id="list_alarms",
    summary="List alarms, newest raised first",
    response_model=AlarmPage,
    responses=documented("unauthorized", "forbidden", "invalid", "bad-cursor"),
    openapi_extra=needs("read"),
)
async def list_alarms(store: Store, query: Annotated[AlarmQuery, Query()]) -> JSONResponse:
    """List alarms that match every given filter; `state` and `priority` may be given several times.

    Alarms that are raised while the pages are read do not move the rest: a page begins where the former one ended.
    """
    where = AlarmFilter(
        states=frozenset(query.state),
        priorities=frozenset(query.priority),
        asset=query.asset,
        device=query.device,
        metric=query.metric,
        rule=query.rule,
        start=query.from_,
        end=query.to,
        text=query.text,
        provisional=query.provisional,
    )
    page = await store.alarms(where, limit=query.limit, cursor=query.cursor)
    return JSONResponse({"items": page.items, "next": page.next})


@router.get(
    "/v1/alarms/{alarm_id}",
    operation_id="get_alarm",
    summary="Get one alarm",
    response_model=Alarm,
    responses=documented("unauthorized", "forbidden", "not-found", "invalid"),
    openapi_extra=needs("read"),
)
async def get_alarm(store: Store, alarm_id: _AlarmPath) -> JSONResponse:
    """Get one alarm, also one that the lake turned out not to hold: that one has `"retracted": true`."""
    return JSONResponse(_found(alarm_id, await store.alarm(alarm_id)))


@router.get(
    "/v1/alarms/{alarm_id}/history",
    operation_id="get_alarm_history",
    summary="Get what happened to an alarm",
    response_model=History,
    responses=documented("unauthorized", "forbidden", "not-found", "invalid"),
    openapi_extra=needs("read"),
)
async def get_history(store: Store, alarm_id: _AlarmPath) -> JSONResponse:
    """Get what the process and the operators did to an alarm, in order of arrival. Nothing is ever taken out."""
    return JSONResponse({"items": _found(alarm_id, await store.history(alarm_id)), "next": None})


@router.post(
    "/v1/alarms/{alarm_id}/acknowledge",
    operation_id="acknowledge_alarm",
    summary="Acknowledge an alarm",
    response_model=Alarm,
    responses=documented(
        "unauthorized", "forbidden", "not-found", "not-allowed", "invalid", "key-reused", "bad-request"
    ),
    openapi_extra=needs("operate"),
)
async def acknowledge(
    store: Store, actor: Actor, alarm_id: _AlarmPath, action: Acknowledge, idempotency_key: _IdempotencyKey = None
) -> JSONResponse:
    """Say that a person has seen the alarm. The actor is the key's name; the first acknowledgement stands."""
    alarm = await store.acknowledge(alarm_id, actor=actor.name, comment=action.comment, idempotency_key=idempotency_key)
    _log.info("alarm acknowledged", actor=actor.name, alarm_id=alarm_id)
    return JSONResponse(alarm)


def _found(alarm_id: str, found: Any) -> Any:
    if found is None:
        raise Problem("not-found", f"couldn't find alarm {alarm_id}; GET /v1/alarms lists those there are")
    return found
