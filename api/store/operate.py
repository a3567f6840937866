"""What operators do to alarms: acknowledge, once, with an answer that can be asked for again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from alumicatalyst.transitions import storable
from api.store import schema
from api.store.clock import now
from api.store.errors import KeyReused, NotAllowed, NotFound
from api.store.fold import Acknowledgement, allowed_in, state_of, with_acknowledgement
from api.store.publish import audit, decoded, encoded, load, publish, take_seqs, view

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

ACTION = "acknowledge"


async def acknowledge(
    connection: AsyncConnection, alarm_id: str, *, actor: str, comment: str, idempotency_key: str | None
) -> tuple[dict[str, Any], int]:
    """Acknowledge an alarm; see HotStore.acknowledge.

    Returns:
        The alarm, and how many changes there were.
    """
    alarm_id, actor, comment = storable(alarm_id), storable(actor), storable(comment)
    # Two operators meet here; and the answer to a key is looked for after the one who may be writing it has ended.
    known = (await load(connection, [alarm_id], lock=True)).get(alarm_id)
    request = hashlib.sha256(encoded([ACTION, alarm_id, comment]).encode()).digest()
    if idempotency_key is not None:
        idempotency_key = storable(idempotency_key)
        answer = await _answered(connection, actor, idempotency_key, request)
        if answer is not None:
            return answer, 0
    if known is None:
        raise NotFound(f"couldn't {ACTION} an alarm: there is none of the id {alarm_id}; list the alarms")
    if ACTION not in allowed_in(known.state):
        raise NotAllowed(ACTION, known.state, allowed_in(known.state))
    time = now()
    alarm = with_acknowledgement(known.alarm, Acknowledgement(actor, time, comment))
    seq = await take_seqs(connection, 1)
    stored = known._replace(alarm=alarm, state=state_of(alarm), seq=seq)
    row = {"alarm_id": alarm_id, "action": ACTION, "actor": actor, "comment": comment, "time": time, "seq": seq}
    await connection.execute(schema.actions.insert(), row)
    await publish(connection, [stored], {alarm_id: known}, time=time)
    await audit(connection, time=time, actor=actor, action=ACTION, subject=alarm_id, detail={"comment": comment})
    [shown] = view([stored])
    if idempotency_key is not None:
        answer_row = {"key": idempotency_key, "request_sha256": request, "answer": encoded(shown)}
        await connection.execute(schema.answers.insert(), {"actor": actor, "time": time, **answer_row})
    return shown, 1


async def _answered(connection: AsyncConnection, actor: str, key: str, request: bytes) -> dict[str, Any] | None:
    columns = schema.answers.c
    statement = select(columns.request_sha256, columns.answer).where(columns.actor == actor, columns.key == key)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    if row.request_sha256 != request:
        raise KeyReused("couldn't take the idempotency key: it came before with another body; use a new one")
    answer: dict[str, Any] = decoded(row.answer)
    return answer
