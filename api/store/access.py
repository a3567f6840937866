"""API keys: their digests, what they open, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select, update

from alumicatalyst.transitions import storable
from api.store import schema
from api.store.clock import datetime_of, now, number_of
from api.store.contract import SCOPES, Key
from api.store.errors import StoreError
from api.store.publish import audit

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.store.contract import Scope

_K = schema.keys.c


async def create(
    connection: AsyncConnection,
    *,
    name: str,
    scopes: frozenset[Scope],
    expires: datetime | None,
    id: str,  # noqa: A002
    sha256: bytes,
    actor: str,
) -> None:
    """Add a key; see HotStore.create_key."""
    if await one(connection, id) is not None:
        raise StoreError(f"couldn't add the API key {id}: there is one of this id; make another")
    time, listed = now(), [scope for scope in SCOPES if scope in scopes]
    row = {
        "id": id,
        "name": storable(name),
        "sha256": sha256,
        "scopes": ",".join(listed),
        "created": time,
        "expires": None if expires is None else number_of(expires),
    }
    await connection.execute(schema.keys.insert(), row)
    detail = {"name": name, "scopes": listed}
    await audit(connection, time=time, actor=storable(actor), action="create_key", subject=id, detail=detail)


async def one(connection: AsyncConnection, id: str) -> Key | None:  # noqa: A002
    """Return one key, or None."""
    row = (await connection.execute(select(schema.keys).where(_K.id == storable(id)))).one_or_none()
    return None if row is None else _key(row)


async def every(connection: AsyncConnection) -> list[Key]:
    """Return all keys, oldest first."""
    return [_key(row) for row in await connection.execute(select(schema.keys).order_by(_K.created, _K.id))]


async def revoke(connection: AsyncConnection, name_or_id: str, *, actor: str) -> bool:
    """Revoke keys; see HotStore.revoke_key."""
    named = storable(name_or_id)
    statement = (
        update(schema.keys)
        .where(or_(_K.id == named, _K.name == named), _K.revoked.is_(None))
        .values(revoked=now())
        .returning(_K.id, _K.name, _K.revoked)
    )
    rows = (await connection.execute(statement)).all()
    for row in rows:
        detail = {"name": row.name}
        await audit(
            connection, time=row.revoked, actor=storable(actor), action="revoke_key", subject=row.id, detail=detail
        )
    return bool(rows)


def _key(row: Row[Any]) -> Key:
    listed = row.scopes.split(",")
    return Key(
        row.id,
        row.name,
        bytes(row.sha256),
        frozenset(scope for scope in SCOPES if scope in listed),
        datetime_of(row.created),
        None if row.expires is None else datetime_of(row.expires),
        None if row.revoked is None else datetime_of(row.revoked),
    )
