"""Every error that the API answers with: RFC 9457 problems, each with a status, a title and what to do next."""

from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from api import store

MEDIA_TYPE: Final = "application/problem+json"
URN: Final = "urn:alumicatalyst:problem:"
# What to wait before the next try where nothing better is known.
RETRY_AFTER_S: Final = 1


class Kind(NamedTuple):
    """A kind of problem: its status, and its title, which is the same for every one of that kind."""

    status: int
    title: str


KINDS: Final[dict[str, Kind]] = {
    "bad-request": Kind(400, "The request cannot be read"),
    "unauthorized": Kind(401, "A valid key is needed"),
    "forbidden": Kind(403, "The key lacks the scope"),
    "not-found": Kind(404, "There is no such thing here"),
    "method-not-allowed": Kind(405, "The method does not fit the path"),
    "request-timeout": Kind(408, "The request took too long to arrive"),
    "gap": Kind(409, "The rows do not follow the mark"),
    "mismatch": Kind(409, "The lake holds other transitions"),
    "not-allowed": Kind(409, "The alarm's state does not allow it"),
    "too-large": Kind(413, "The request is too large"),
    "unsupported-media-type": Kind(415, "The body's type does not fit"),
    "invalid": Kind(422, "The request breaks the rules"),
    "bad-table": Kind(422, "The body is not the table that the path names"),
    "bad-cursor": Kind(422, "The cursor is not one of ours"),
    "key-reused": Kind(422, "The Idempotency-Key was used for another request"),
    "rate-limited": Kind(429, "Too many requests"),
    "internal": Kind(500, "A defect of the API"),
    "busy": Kind(503, "The store cannot answer now"),
    "too-many-streams": Kind(503, "The streams are all taken"),
    "timeout": Kind(503, "The answer took too long"),
}
_BY_STATUS: Final = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}
_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "gap": {"mark": 41_000, "committed": 40_000},
    "mismatch": {"committed": 40_000},
    "not-allowed": {"state": "active_acked", "allowed": []},
    "invalid": {"errors": [{"at": "query.limit", "message": "Input should be less than or equal to 1000"}]},
}
_DETAILS: Final[dict[str, str]] = {
    "unauthorized": "couldn't take the request: it has no key; send Authorization: Bearer <key>",
    "forbidden": "couldn't take the request: the key has the scopes ingest; use a key with the scope read",
    "gap": "couldn't take rows after 42000: the mark is 41000; send what follows the mark",
    "rate-limited": "couldn't take the request: the key's limit is 50 requests a second; wait for Retry-After",
}


class ErrorAt(BaseModel):
    """One thing that is wrong with a request."""

    at: str = Field(description="Where it is: body, path, query or header, then the name.")
    message: str = Field(description="What is wrong with it.")


class ProblemDocument(BaseModel):
    """A problem as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="What kind of problem this is: `urn:alumicatalyst:problem:<slug>`.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What could not be done, why, and what to do next.")
    request_id: str = Field(description="The id of this request, which the log has too.")
    errors: list[ErrorAt] | None = Field(default=None, description="Everything that breaks a rule (422).")
    mark: int | None = Field(default=None, description="The mark of that kind of rows (409 gap).")
    committed: int | None = Field(default=None, description="What the lake is known to hold (409 gap, mismatch).")
    state: str | None = Field(default=None, description="The alarm's state (409 not-allowed).")
    allowed: list[str] | None = Field(default=None, description="What that state allows (409 not-allowed).")


class Problem(HTTPException):
    """A request that cannot be served as asked; raised anywhere, answered as problem+json."""

    def __init__(
        self, slug: str, detail: str, *, headers: dict[str, str] | None = None, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(KINDS[slug].status, detail, headers)
        self.slug = slug
        self.more = more or {}

    def response(self, request_id: str) -> JSONResponse:
        """Return the answer."""
        kind = KINDS[self.slug]
        return JSONResponse(
            {
                "type": URN + self.slug,
                "title": kind.title,
                "status": kind.status,
                "detail": self.detail,
                "request_id": request_id,
                **self.more,
            },
            kind.status,
            self.headers,
            MEDIA_TYPE,
        )


def of_http(error: HTTPException, *, method: str, path: str) -> Problem:
    """Return the problem for an error that the framework raised: an unknown path, another method, a broken body."""
    if isinstance(error, Problem):
        return error
    headers = dict(error.headers) if error.headers else None
    slug = _BY_STATUS.get(error.status_code, "bad-request")
    detail = {
        "not-found": f"couldn't find {path}; GET /openapi.json lists every path",
        "method-not-allowed": f"couldn't {method} {path}; allowed: {(headers or {}).get('Allow', 'another method')}",
    }.get(slug, f"couldn't read the request: {error.detail}; correct it and send it again")
    return Problem(slug, detail, headers=headers)


def of_store(error: store.StoreError) -> Problem:
    """Return the problem for what the store refused."""
    match error:
        case store.Gap():
            return Problem("gap", str(error), more={"mark": error.mark, "committed": error.committed})
        case store.Mismatch():
            return Problem("mismatch", str(error), more={"committed": error.committed})
        case store.NotFound():
            return Problem("not-found", str(error))
        case store.NotAllowed():
            return Problem("not-allowed", str(error), more={"state": error.state, "allowed": list(error.allowed)})
        case store.BadRows():
            return Problem("bad-table", str(error))
        case store.BadCursor():
            return Problem("bad-cursor", str(error))
        case store.KeyReused():
            return Problem("key-reused", str(error))
        case _:
            # What else a store says can name hosts and files: that is for the log.
            return Problem(
                "busy",
                f"couldn't reach the store: it is busy or away; try again in {RETRY_AFTER_S} s",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )


def documented(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """Return the answers of an operation for OpenAPI: these problems, and those that any operation may meet."""
    responses: dict[int | str, dict[str, Any]] = {}
    for slug in sorted({*slugs, "request-timeout", "too-large", "rate-limited", "internal", "busy", "timeout"}):
        kind = KINDS[slug]
        response = responses.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        if kind.title not in response["description"]:
            response["description"] += f"; or: {kind.title.lower()}"
        if kind.status in {429, 503}:
            response["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
            }
        response["content"][MEDIA_TYPE]["examples"][slug] = {
            "value": {
                "type": URN + slug,
                "title": kind.title,
                "status": kind.status,
                "detail": _DETAILS.get(slug, "couldn't <verb> <thing>: <value>; <what to do next>"),
                "request_id": "0d3f7c1b9e5a4c62",
                **_EXAMPLES.get(slug, {}),
            }
        }
    return responses
