"""T-SQL that shows the lake in Synapse serverless and in Fabric: typed views made from the schemas and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

from alumicatalyst.lake import tables

if TYPE_CHECKING:
    from collections.abc import Callable

Dialect = Literal["synapse", "fabric"]

COLLATION: Final = "Latin1_General_100_BIN2_UTF8"
"""Text is UTF-8, and compared byte by byte: the only collation under which the engine skips files by text."""

_SCHEMA: Final = {"synapse": "dbo", "fabric": "telemetry"}
_SOURCE: Final = "lake"

_TYPES: Final = {
    pa.date32(): "date",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "float",
    pa.bool_(): "bit",
    pa.timestamp("us", tz="UTC"): "datetime2(6)",
}

# Names are at most 256 bytes; a partition and an asset are paths of names. Short types are what queries are planned by.
_TEXT_BYTES: Final = 256
_BYTES: Final = {
    "partition": "1024",
    "asset": "1024",
    "alarm_id": "32",
    "dictionary_sha256": "64",
    "detail": "8000",
    "message": "8000",
    # The rejected rows' payloads, and names as a device sent them.
    "rejected.body": "4096",
    "rejected.device": "8000",
    "rejected.metric": "8000",
    "journal.body": "max",
    "_batch": "16",
}

_NOTES: Final = {
    "value": "in the metric's unit, which the data dictionary states",
    "quality": "OPC quality; 192 is good",
    "item": "the reading's place in its envelope; -1 is the envelope",
    "score": "higher is stranger; null below what the dictionary keeps",
    "date": "UTC date of the partition's folder; state it, and other days' files are not read",
    "_batch": "with _row where the row was first written, for the ledger",
}


def scripts(dialect: Dialect, uri: str) -> dict[str, str]:
    """Return the scripts to run, in their order, by file name.

    Args:
        dialect: Whose T-SQL.
        uri: The lake's address; it names the storage account if it is one, and else placeholders stand for it.
    """
    setup = _synapse_setup(uri) if dialect == "synapse" else _fabric_setup(uri)
    table = _synapse_table if dialect == "synapse" else _fabric_table
    views = [_view(dialect, name, text) for name, text in _VIEWS.items()]
    return {
        "1-setup.sql": setup,
        "2-tables.sql": _script(_TABLES_SAY, [table(name) for name in tables.SPECS]),
        "3-views.sql": _script(_VIEWS_SAY, views),
    }


def type_of(table: str, field: pa.Field) -> str:
    """Return the T-SQL type of a column."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    size = _BYTES.get(f"{table}.{field.name}") or _BYTES.get(field.name) or str(_TEXT_BYTES)
    if pa.types.is_string(kind):
        return f"varchar({size})"
    if pa.types.is_binary(kind):
        return f"varbinary({size})"
    return _TYPES[kind]


_TABLES_SAY: Final = """\
-- The lake's tables as views with a type for every column. Times are UTC; a name that ends in _us is in microseconds,
-- in _bytes in bytes, in _per_s per second. Rows show as soon as they are committed; the views of 3-views.sql stop
-- where all tables agree."""

_VIEWS_SAY: Final = """\
-- Views for reports, over those of 2-tables.sql."""


def _synapse_setup(uri: str) -> str:
    account, container, path = _place(uri)
    location = "/".join(each for each in (f"https://{account}", container, path) if each)
    return f"""\
-- Azure Synapse, serverless SQL pool: run once, as an administrator, with what stands in <> replaced. No secret is
-- needed: the workspace signs in as itself, and needs the role Storage Blob Data Reader on the container.
CREATE DATABASE [alumicatalyst] COLLATE {COLLATION};
GO
USE [alumicatalyst];
GO
-- Serverless wants a key before it keeps a credential; the password is yours to choose.
CREATE MASTER KEY ENCRYPTION BY PASSWORD = '<password>';
GO
CREATE DATABASE SCOPED CREDENTIAL [workspace] WITH IDENTITY = 'Managed Identity';
GO
CREATE EXTERNAL DATA SOURCE [{_SOURCE}] WITH (LOCATION = '{_quoted(location)}', CREDENTIAL = [workspace]);
GO
"""


def _fabric_setup(uri: str) -> str:
    account, container, path = _place(uri)
    folder = "/".join(each for each in (container, path) if each)
    lines = "\n".join(f"--   {name}: https://{account}, {folder}/{name}" for name in tables.SPECS)
    return f"""\
-- Microsoft Fabric: in a lakehouse named {_SOURCE} make a shortcut under Tables to Azure Data Lake Storage Gen2 for
-- each table, named as here, with the address and the path that follow; replace what stands in <>.
{lines}
-- Then run these scripts in the lakehouse's SQL analytics endpoint.
CREATE SCHEMA [{_SCHEMA["fabric"]}];
GO
"""


def _place(uri: str) -> tuple[str, str, str]:
    """Return account host, container and path of an address; placeholders for a lake that is in no account."""
    match = re.match(r"abfss?://(?P<container>[^@/]+)@(?P<host>[^/]+)/?(?P<path>.*)$", uri)
    if match is None:
        return "<account>.dfs.core.windows.net", "<container>", "<path>"
    return match["host"], match["container"], match["path"].strip("/")


def _synapse_table(name: str) -> str:
    def column(field: pa.Field) -> str:
        kind = type_of(name, field)
        return f"[{field.name}] {kind}" + (f" COLLATE {COLLATION}" if kind.startswith("varchar") else "")

    return f"""\
CREATE OR ALTER VIEW [{_SCHEMA["synapse"]}].[{name}] AS
SELECT *
FROM OPENROWSET(BULK '{name}', DATA_SOURCE = '{_SOURCE}', FORMAT = 'DELTA')
WITH (
{_columns(name, column)}
) AS [rows];"""  # noqa: S608 own names


def _fabric_table(name: str) -> str:
    def column(field: pa.Field) -> str:
        return f"CAST([{field.name}] AS {type_of(name, field)}) AS [{field.name}]"

    return f"""\
CREATE OR ALTER VIEW [{_SCHEMA["fabric"]}].[{name}] AS
SELECT
{_columns(name, column)}
FROM [{_SOURCE}].[dbo].[{name}];"""  # noqa: S608 own names


def _columns(name: str, text: Callable[[pa.Field], str]) -> str:
    fields = list(tables.schema(name))
    lines = []
    for at, field in enumerate(fields, 1):
        note = _NOTES.get(field.name)
        lines.append(f"    {text(field)}{',' if at < len(fields) else ''}" + (f" -- {note}" if note else ""))
    return "\n".join(lines)


def _view(dialect: Dialect, name: str, text: str) -> str:
    says, _, query = text.partition("\nSELECT")
    columns = {f"{{{table}}}": _listed(table) for table in tables.SPECS}
    for placeholder, listed in columns.items():
        query = query.replace(placeholder, listed)
    return f"{says}\nCREATE OR ALTER VIEW [{{schema}}].[{name}] AS\nSELECT{query};".replace(
        "{schema}", _SCHEMA[dialect]
    )


def _listed(table: str) -> str:
    return ", ".join(f"[rows].[{each}]" for each in tables.schema(table).names)


def _script(says: str, statements: list[str]) -> str:
    return "\n".join([says, *(f"{each}\nGO" for each in statements), ""])


def _quoted(text: str) -> str:
    return text.replace("'", "''")


_SEALED: Final = """\
-- {about} up to where every table holds what it should: use it for sums.
SELECT {{{table}}}
FROM [{{schema}}].[{table}] AS [rows]
JOIN [{{schema}}].[marks] AS [marks]
  ON [marks].[partition] = [rows].[partition] AND [rows].[sequence_number] <= [marks].[last_sequence]"""

_VIEWS: Final = {
    "marks": """\
-- Up to which sequence number each partition is sealed, and when that was.
SELECT [partition], MAX([last_sequence]) AS [last_sequence], MAX([enqueued_time_max]) AS [enqueued_time],
    MAX([committed_time]) AS [committed_time]
FROM [{schema}].[batches]
GROUP BY [partition]""",
    "readings_sealed": _SEALED.format(about="Readings", table="readings"),
    "windows_sealed": _SEALED.format(about="Closed windows", table="windows"),
    "alarms_active": """\
-- Alarms that are on: the last step of each, unless it is the one that cleared it.
SELECT {alarms}
FROM [{schema}].[alarms] AS [rows]
JOIN (
    SELECT [alarm_id], MAX([step]) AS [step] FROM [{schema}].[alarms] GROUP BY [alarm_id]
) AS [last] ON [last].[alarm_id] = [rows].[alarm_id] AND [last].[step] = [rows].[step]
WHERE [rows].[transition] <> 'cleared'""",
    "accounting": """\
-- For each partition what was counted when it came in, and what of it the tables hold: the differences are 0 until rows
-- expire (`alumicatalyst lake expire`), and then they are what expired.
SELECT [said].[partition], [said].[rows_total],
    [said].[rows_windowed] - COALESCE([read].[windowed], 0) AS [windowed_difference],
    [said].[rows_late] - COALESCE([read].[late], 0) AS [late_difference],
    [said].[rows_duplicate] - COALESCE([read].[duplicate], 0) AS [duplicate_difference],
    [said].[rows_rejected] - COALESCE([refused].[rejected], 0) AS [rejected_difference],
    [said].[rows_total] - [said].[rows_windowed] - [said].[rows_late] - [said].[rows_duplicate]
        - [said].[rows_rejected] AS [balance]
FROM (
    SELECT [partition], MAX([last_sequence]) AS [last_sequence], SUM([rows_total]) AS [rows_total],
        SUM([rows_windowed]) AS [rows_windowed], SUM([rows_late]) AS [rows_late],
        SUM([rows_duplicate]) AS [rows_duplicate], SUM([rows_rejected]) AS [rows_rejected]
    FROM [{schema}].[batches]
    GROUP BY [partition]
) AS [said]
LEFT JOIN (
    SELECT [partition], COUNT_BIG(CASE WHEN [outcome] = 'windowed' THEN 1 END) AS [windowed],
        COUNT_BIG(CASE WHEN [outcome] = 'late' THEN 1 END) AS [late],
        COUNT_BIG(CASE WHEN [outcome] = 'duplicate' THEN 1 END) AS [duplicate]
    FROM [{schema}].[readings_sealed]
    GROUP BY [partition]
) AS [read] ON [read].[partition] = [said].[partition]
LEFT JOIN (
    SELECT [rows].[partition], COUNT_BIG(*) AS [rejected]
    FROM [{schema}].[rejected] AS [rows]
    JOIN [{schema}].[marks] AS [marks]
      ON [marks].[partition] = [rows].[partition] AND [rows].[sequence_number] <= [marks].[last_sequence]
    GROUP BY [rows].[partition]
) AS [refused] ON [refused].[partition] = [said].[partition]""",
}
