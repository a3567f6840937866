"""The API keeps to its own description: schemathesis asks it what the OpenAPI document allows, and what it does not."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from api.problems import KINDS
from api.security.gate import OPEN_PATHS, STREAM_PATH
from api.store import SCOPES
from tests.api.serving import Serving, alarm_id, newest, post, stream_of, table, transition, window

with warnings.catch_warnings():
    # What schemathesis imports warns about itself.
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi.checks import negative_data_rejection

if TYPE_CHECKING:
    from collections.abc import Iterator

ARROW = "application/vnd.apache.arrow.stream"
EXAMPLES = 20


@schemathesis.serializer(ARROW)
def _as_it_is(_context: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(f"sqlite:///{tmp_path_factory.mktemp('openapi')}/api.sqlite") as serving:
        with serving.client("ingest") as sink:
            post(sink, "alarms", [transition(n, n + 1) for n in range(20)], -1, 20)
            post(sink, "windows", [window(n, n + 1) for n in range(20)], -1, 20)
            post(sink, "latest", [newest(n, n + 1) for n in range(20)], -1, 20)
        yield serving


@pytest.fixture(scope="module")
def document(serving: Serving) -> dict[str, Any]:
    return serving.app.openapi()  # type: ignore[no-any-return]


def sensible(case: Any) -> None:
    """Make a request that keeps to the schema keep also to what a schema cannot say."""
    query = case.query or {}
    # Only former answers give cursors.
    query.pop("cursor", None)
    if "follows" in query:
        query["follows"], query["last"] = sorted((query["follows"], query["last"]))
        case.body = stream_of(table(case.path_parameters["kind"], []))
    if isinstance(case.body, dict):
        # To a schema 3.0 is a whole number; to a strict reader of JSON it is none.
        for name, value in case.body.items():
            if isinstance(value, float) and value.is_integer():
                case.body[name] = int(value)
    if isinstance(case.body, dict) and "follows" in case.body:
        case.body["follows"], case.body["last"] = sorted((case.body["follows"], case.body["last"]))
    # An idempotency key that comes again with another body is refused.
    for name in [name for name in case.headers or {} if name.lower() == "idempotency-key"]:
        del case.headers[name]
    if "alarm_id" in (case.path_parameters or {}) and sum(case.path_parameters["alarm_id"].encode()) % 3:
        case.path_parameters["alarm_id"] = alarm_id(sum(case.path_parameters["alarm_id"].encode()) % 20)


def test_the_largest_number_described_is_the_largest_that_is_taken(document: dict[str, Any]) -> None:
    last = document["components"]["schemas"]["Commit"]["properties"]["last"]
    assert (last["maximum"], type(last["maximum"])) == (2**63 - 1, int)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as_described", "otherwise"])
def test_i9_every_operation_answers_as_it_is_described(serving: Serving, document: Any, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=serving.address)
    key = {"Authorization": f"Bearer {serving.key(*SCOPES)}"}
    asked = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        # A stream does not end, so it has tests of its own; and nothing can be wrong with a request for health.
        if operation.path == STREAM_PATH or (operation.path in OPEN_PATHS and mode is GenerationMode.NEGATIVE):
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            excluded = []
            if mode is GenerationMode.POSITIVE:
                sensible(case)
                # It takes a body that was put in its place for one that it made wrong.
                excluded = [negative_data_rejection]
            elif not any(name.lower() == "authorization" for name in case.headers or {}):
                # What it left out is given here, and then perhaps nothing is wrong.
                excluded = [negative_data_rejection]
            case.call_and_validate(headers=key, timeout=30, excluded_checks=excluded)

        ask()
        asked.add(operation.label)
    assert len(asked) >= 10


def test_every_operation_is_described_for_people(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert len(operation["description"]) > 20, path
            assert operation["operationId"]
            assert operation["tags"]
            for status, response in operation["responses"].items():
                assert response["description"], (path, status)
                if int(status) >= 400:
                    (content,) = response["content"].items()
                    assert content[0] == "application/problem+json"
                    assert content[1]["schema"] == {"$ref": "#/components/schemas/Problem"}
                    for slug, example in content[1]["examples"].items():
                        assert KINDS[slug].status == int(status) == example["value"]["status"]
                        assert example["value"]["type"].endswith(f":{slug}")
            for parameter in operation.get("parameters", []):
                assert parameter["description"], (path, parameter)
