"""The tables' logs and files, read byte by byte: they stay within what every reader of Delta tables knows.

Synapse serverless reads Delta 1.0, Power BI reader version 2 at most: so reader 1 and writer 2 without any feature,
classic checkpoints in one file, plain types. All of it is checked over each commit of a lake that went through much.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.log import checkpoint_version_of, version_of
from tests.lake import lived

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = {"string", "long", "integer", "short", "double", "float", "date", "timestamp", "binary", "boolean"}
"""Types of Delta 1.0 that Synapse serverless and Power BI take; there is none without an offset among them."""

ENCODINGS = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "DELTA_BINARY_PACKED"}
"""Those that Spark's default reader knows. BYTE_STREAM_SPLIT is none of them."""

ACTIONS = {"commitInfo", "protocol", "metaData", "txn", "add", "remove"}
SAFE = "/=-_.~"


@dataclass
class Log:
    """The log of one table, and the state that its commits make."""

    name: str
    folder: Path
    commits: list[list[dict[str, Any]]] = field(default_factory=list)
    checkpoints: dict[int, pa.Table] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        return self.folder / self.name

    def actions(self, kind: str) -> Iterator[dict[str, Any]]:
        for commit in self.commits:
            yield from (each[kind] for each in commit if kind in each)

    def live(self, version: int) -> dict[str, dict[str, Any]]:
        files: dict[str, dict[str, Any]] = {}
        for commit in self.commits[: version + 1]:
            for each in commit:
                if "add" in each:
                    files[each["add"]["path"]] = each["add"]
                elif "remove" in each:
                    del files[each["remove"]["path"]]
        return files


def read_log(lake: Lake, name: str) -> Log:
    log = Log(name, Path(lake.store.root))
    found = {path.name: path for path in (log.table / "_delta_log").iterdir() if path.is_file()}
    versions = sorted(version for name in found if (version := version_of(name)) is not None)
    assert versions == list(range(len(versions)))
    for version in versions:
        data = found.pop(f"{version:020d}.json").read_bytes()
        assert data.endswith(b"\n")
        log.commits.append([json.loads(line) for line in data.removesuffix(b"\n").split(b"\n")])
    for each in [name for name in found if checkpoint_version_of(name) is not None]:
        version = checkpoint_version_of(each)
        assert version is not None
        log.checkpoints[version] = pq.ParquetFile(io.BytesIO(found.pop(each).read_bytes())).read()
    # Nothing that a reader would have to make out stands beside them.
    assert set(found) == {"_last_checkpoint"}
    return log


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lived.live(tmp_path_factory.mktemp("protocol") / "a lake, 100 %", expired=True)


@pytest.fixture(params=tables.SPECS)
def log(lake: Lake, request: pytest.FixtureRequest) -> Log:
    return read_log(lake, request.param)


def test_the_lake_went_through_much(lake: Lake) -> None:
    done: Counter[str] = Counter()
    for name in tables.SPECS:
        done.update(each["operation"] for each in read_log(lake, name).actions("commitInfo"))
    assert done.keys() >= {"CREATE TABLE", "WRITE", "OPTIMIZE", "EXPIRE", "ADD COLUMNS"}


def test_every_commit_is_of_known_actions_and_tells_of_itself_first(log: Log) -> None:
    for commit in log.commits:
        assert all(len(each) == 1 for each in commit)
        kinds = [next(iter(each)) for each in commit]
        assert set(kinds) <= ACTIONS
        assert kinds.index("commitInfo") == 0
        assert kinds.count("commitInfo") == 1
        info = commit[0]["commitInfo"]
        assert isinstance(info["timestamp"], int)
        assert isinstance(info["operation"], str)
        # Delta's own readers take texts there and nothing else.
        assert all(isinstance(each, str) for each in info.get("operationParameters", {}).values())
        assert all(isinstance(each, str) for each in info.get("operationMetrics", {}).values())
        apps = [each["txn"]["appId"] for each in commit if "txn" in each]
        assert len(apps) == len(set(apps))


def test_the_protocol_is_reader_1_and_writer_2_for_ever(log: Log) -> None:
    assert list(log.actions("protocol")) == [{"minReaderVersion": 1, "minWriterVersion": 2}]
    for checkpoint in log.checkpoints.values():
        (found,) = checkpoint.column("protocol").drop_null().to_pylist()
        assert {key: value for key, value in found.items() if value is not None} == {
            "minReaderVersion": 1,
            "minWriterVersion": 2,
        }


def test_the_schema_is_of_plain_types_that_old_readers_know(log: Log) -> None:
    spec = tables.SPECS[log.name]
    every = list(log.actions("metaData"))
    assert len({each["id"] for each in every}) == 1
    for metadata in every:
        schema = json.loads(metadata["schemaString"])
        assert schema["type"] == "struct"
        assert {each["type"] for each in schema["fields"]} <= TYPES
        # No column mapping, generated columns, invariants or defaults, which stand there.
        assert all(each["metadata"] == {} for each in schema["fields"])
        assert metadata["format"] == {"provider": "parquet", "options": {}}
        assert metadata["partitionColumns"] == spec.partition_by
        assert metadata["partitionColumns"] in (["date"], [])
        configuration = metadata["configuration"]
        assert configuration["delta.enableExpiredLogCleanup"] == "false"
        assert configuration["delta.appendOnly"] == ("true" if spec.append_only else "false")
        assert set(configuration) <= {
            "delta.enableExpiredLogCleanup",
            "delta.appendOnly",
            "delta.checkpointInterval",
        }
    assert [each["name"] for each in json.loads(every[-1]["schemaString"])["fields"]] == tables.schema(log.name).names


def test_paths_are_relative_encoded_and_in_the_folder_of_their_date(log: Log) -> None:
    for kind in ("add", "remove"):
        for action in log.actions(kind):
            path = action["path"]
            assert not path.startswith("/")
            assert ":" not in path
            assert ".." not in path
            assert quote(unquote(path), safe=SAFE) == path
            day = action["partitionValues"].get("date")
            assert set(action["partitionValues"]) == set(tables.SPECS[log.name].partition_by)
            assert path.startswith(f"date={day}/" if day else "part-")
            if day:
                date.fromisoformat(day)
            assert action.get("deletionVector") is None


def test_adds_and_removes_say_what_readers_need_of_them(log: Log) -> None:
    live: dict[str, Any] = {}
    for commit in log.commits:
        operation = commit[0]["commitInfo"]["operation"]
        for each in commit:
            if "add" in each:
                add = each["add"]
                assert add["path"] not in live
                assert add["dataChange"] is (operation != "OPTIMIZE")
                assert isinstance(add["modificationTime"], int)
                live[add["path"]] = add
            elif "remove" in each:
                remove = each["remove"]
                former = live.pop(remove["path"])
                assert remove["dataChange"] is (operation != "OPTIMIZE")
                assert remove["extendedFileMetadata"] is True
                assert (remove["size"], remove["partitionValues"]) == (former["size"], former["partitionValues"])
                assert isinstance(remove["deletionTimestamp"], int)
    for path, add in live.items():
        assert (log.table / unquote(path)).stat().st_size == add["size"]


def value(told: Any, kind: pa.DataType) -> Any:
    """Return a statistic as the column has it."""
    if pa.types.is_timestamp(kind):
        assert told.endswith("Z")
        return datetime.fromisoformat(told).astimezone(UTC)
    return told


def test_statistics_are_those_of_the_data(log: Log) -> None:
    counted = 0
    for add in log.actions("add"):
        path = log.table / unquote(add["path"])
        if not path.exists():
            continue
        data = pq.ParquetFile(path).read()
        statistics = json.loads(add["stats"])
        assert set(statistics) <= {"numRecords", "minValues", "maxValues", "nullCount"}
        assert statistics["numRecords"] == data.num_rows > 0
        assert set(statistics["minValues"]) == set(statistics["maxValues"])
        for name, nulls in statistics["nullCount"].items():
            assert data.column(name).null_count == nulls
        for name, lowest in statistics["minValues"].items():
            column = data.column(name)
            extremes = pc.min_max(column)
            low, high = (value(told, column.type) for told in (lowest, statistics["maxValues"][name]))
            assert (low, high) == (extremes["min"].as_py(), extremes["max"].as_py())
            counted += 1
        prunable = {"sequence_number", "enqueued_time"} & set(data.column_names)
        assert prunable <= set(statistics["minValues"])
    assert counted


def test_files_hold_plain_columns_in_encodings_that_every_reader_knows(log: Log) -> None:
    schema = tables.schema(log.name)
    for add in log.actions("add"):
        file = pq.ParquetFile(log.table / unquote(add["path"]))
        # Partition columns stand in the path alone.
        assert "date" not in file.schema_arrow.names
        for found in file.schema_arrow:
            kind = schema.field(found.name).type
            assert found.type == (pa.string() if pa.types.is_dictionary(kind) else kind)
        for group in range(file.metadata.num_row_groups):
            for at in range(file.metadata.row_group(group).num_columns):
                chunk = file.metadata.row_group(group).column(at)
                assert set(chunk.encodings) <= ENCODINGS, (add["path"], chunk.path_in_schema)
                assert chunk.compression in {"ZSTD", "SNAPPY", "UNCOMPRESSED"}


def test_checkpoints_are_classic_and_say_what_the_commits_say(log: Log) -> None:
    assert log.checkpoints
    newest = max(log.checkpoints)
    pointer = json.loads((log.table / "_delta_log" / "_last_checkpoint").read_bytes())
    assert pointer["version"] == newest
    assert pointer["size"] == log.checkpoints[newest].num_rows
    assert "parts" not in pointer
    for version, checkpoint in log.checkpoints.items():
        assert set(checkpoint.column_names) == {"txn", "add", "remove", "metaData", "protocol"}
        # One action a row.
        filled = [sum(each is not None for each in row.values()) for row in checkpoint.to_pylist()]
        assert set(filled) == {1}
        rows = {
            name: [
                {key: told for key, told in each.items() if told is not None}
                for each in checkpoint.column(name).drop_null().to_pylist(maps_as_pydicts="strict")
            ]
            for name in checkpoint.column_names
        }
        live = log.live(version)
        assert {each["path"]: each for each in rows["add"]} == {
            path: {key: told for key, told in add.items() if told is not None} | {"dataChange": False}
            for path, add in live.items()
        }
        removed = {
            each["remove"]["path"] for commit in log.commits[: version + 1] for each in commit if "remove" in each
        }
        assert {each["path"] for each in rows["remove"]} == removed - live.keys()
        transactions = {
            each["txn"]["appId"]: each["txn"]["version"]
            for commit in log.commits[: version + 1]
            for each in commit
            if "txn" in each
        }
        assert {each["appId"]: each["version"] for each in rows["txn"]} == transactions
        assert len(rows["txn"]) == len(transactions)
        (metadata,) = rows["metaData"]
        told = [each["metaData"] for commit in log.commits[: version + 1] for each in commit if "metaData" in each]
        assert metadata == told[-1]


def test_rows_are_counted_the_same_by_the_log_and_the_files(log: Log) -> None:
    live = log.live(len(log.commits) - 1)
    said = sum(json.loads(each["stats"])["numRecords"] for each in live.values())
    assert said == sum(pq.ParquetFile(log.table / unquote(path)).metadata.num_rows for path in live)
