"""The ledger's newest checkpoint, as its process signed it."""

from pathlib import Path
from typing import Final

import anyio
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from api.deps import ScopedRoute, needs
from api.problems import Problem, documented

router = APIRouter(route_class=ScopedRoute, tags=["ledger"])

_BYTES_MAX: Final = 65_536
_EXAMPLE = (
    "example.com/plant\n4211\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n\n"
    "\u2014 example.com/plant Az3grlgtzPICa5OS8npVmf1Myq...\n"
)


@router.get(
    "/v1/ledger/checkpoint",
    operation_id="get_ledger_checkpoint",
    summary="Get the ledger's newest checkpoint",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "A C2SP tlog-checkpoint in a signed note.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented("unauthorized", "forbidden", "not-found"),
    },
    openapi_extra=needs("read"),
)
async def get_checkpoint(request: Request) -> PlainTextResponse:
    """Get the signed size and root of the ledger, for anyone who verifies a proof."""
    folder = Path(str(request.app.state.ledger_uri).removeprefix("file:"))
    text = await anyio.to_thread.run_sync(_read, folder / "checkpoint")
    if text is None:
        raise Problem(
            "not-found", "couldn't find a checkpoint: no ledger was written yet; start the process that writes it"
        )
    return PlainTextResponse(text)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except OSError:
        return None
    # Whatever is larger was not written by a ledger.
    return content if len(content) <= _BYTES_MAX else None
