"""The doctor's questions in SQL; each returns one row, `detail`, for everything that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alumicatalyst.lake import account

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from alumicatalyst.lake.account import Loss


def prepare(
    connection: duckdb.DuckDBPyConnection,
    marks: Sequence[tuple[str, str, int]],
    losses: Sequence[Loss],
    expired: Mapping[tuple[str, str], int],
    ordinals: Mapping[str, int],
) -> None:
    """Make what the questions use: `marks`, `lost`, `expired`, `ordinals`, `sealed`, and views of the sealed rows.

    Args:
        connection: With the lake's tables as views.
        marks: Table, partition, mark.
        losses: What was lost.
        expired: How many rows have expired, by partition and what they count as.
        ordinals: The ordinal of each partition's last journal row.
    """
    columns = {"tbl": "VARCHAR", "partition": "VARCHAR", "mark": "BIGINT"}
    account.give(connection, "marks", columns, marks)
    account.give_losses(connection, losses)
    gone = [(partition, what, count) for (partition, what), count in expired.items()]
    account.give(connection, "expired", {"partition": "VARCHAR", "what": "VARCHAR", "n": "BIGINT"}, gone)
    account.give(connection, "ordinals", {"partition": "VARCHAR", "ordinal": "BIGINT"}, list(ordinals.items()))
    connection.execute(
        "CREATE TEMP TABLE sealed AS SELECT partition, max(last_sequence) AS mark FROM batches GROUP BY 1"
    )
    for name in ("readings", "windows", "alarms", "rejected"):
        connection.execute(
            f"""CREATE TEMP VIEW sealed_{name} AS
            SELECT t.* FROM {name} t JOIN sealed s USING (partition)
            WHERE t.sequence_number <= s.mark AND NOT {account.IS_LOST}"""  # noqa: S608 own names
        )


_ACCOUNTING = """
WITH expected AS (
    UNPIVOT (
        SELECT partition, sum(rows_windowed) AS windowed, sum(rows_late) AS late, sum(rows_duplicate) AS duplicate,
            sum(rows_rejected) AS rejected, sum(rows_windows) AS windows, sum(rows_alarms) AS alarms
        FROM batches GROUP BY partition
    ) ON COLUMNS(* EXCLUDE (partition)) INTO NAME what VALUE n
), stored AS (
    SELECT partition, outcome AS what, count(*) AS n FROM sealed_readings GROUP BY ALL
    UNION ALL SELECT partition, 'rejected', count(*) FROM sealed_rejected GROUP BY ALL
    UNION ALL SELECT partition, 'windows', count(*) FROM sealed_windows GROUP BY ALL
    UNION ALL SELECT partition, 'alarms', count(*) FROM sealed_alarms GROUP BY ALL
), found AS (
    SELECT partition, what, coalesce(s.n, 0)::BIGINT AS n, coalesce(g.n, 0) AS gone
    FROM stored s FULL JOIN expired g USING (partition, what)
)
SELECT partition || ': batches counts ' || coalesce(e.n, 0)::BIGINT || ' ' || what || ', stored are '
    || coalesce(f.n, 0) || CASE WHEN f.gone > 0 THEN ', expired ' || f.gone ELSE '' END AS detail
FROM expected e FULL JOIN found f USING (partition, what)
WHERE coalesce(e.n, 0) <> coalesce(f.n, 0) + coalesce(f.gone, 0)
"""

_SUMS = """
SELECT partition || ' ' || first_sequence || '-' || last_sequence || ': total ' || rows_total || ' = ' || rows_windowed
    || ' windowed + ' || rows_late || ' late + ' || rows_duplicate || ' duplicate + ' || rows_rejected || ' rejected'
    AS detail
FROM batches WHERE rows_total <> rows_windowed + rows_late + rows_duplicate + rows_rejected
"""

_DISJOINT = """
SELECT partition || ': ' || first_sequence || '-' || last_sequence || ' comes after ' || before AS detail
FROM (
    SELECT partition, first_sequence, last_sequence, max(last_sequence) OVER (
        PARTITION BY partition ORDER BY first_sequence, last_sequence
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM batches
) WHERE first_sequence <= before OR last_sequence < first_sequence
"""

GAPS = """
SELECT partition, before, first_sequence FROM (
    SELECT partition, first_sequence,
        lag(last_sequence) OVER (PARTITION BY partition ORDER BY first_sequence) AS before
    FROM batches
) WHERE first_sequence > before + 1 ORDER BY ALL
"""

_READING_KEYS = """
SELECT partition || ' ' || sequence_number || ' ' || item || ': ' || count(*) || ' rows' AS detail
FROM (
    SELECT partition, sequence_number, item FROM readings
    UNION ALL SELECT partition, sequence_number, item FROM rejected
) GROUP BY partition, sequence_number, item HAVING count(*) > 1
"""

# After an accepted loss the operator begins empty: late readings may open a window again that was closed before.
_WINDOW_KEYS = """
SELECT partition || ' ' || device || ' ' || metric || ' ' || window_name || ' ' || window_start || ': ' || count(*)
    || ' rows' AS detail
FROM (
    SELECT w.*, (SELECT count(*) FROM lost l WHERE l.partition = w.partition AND l.after < w.sequence_number) AS begun
    FROM windows w
) GROUP BY partition, device, metric, window_name, window_start, begun HAVING count(*) > 1
"""

_ALARM_KEYS = """
SELECT alarm_id || ' step ' || step || ': ' || count(*) || ' rows' AS detail
FROM alarms GROUP BY alarm_id, step HAVING count(*) > 1
"""

_MARKS = """
WITH highest AS (
    SELECT 'readings' AS tbl, partition, max(sequence_number) AS high FROM readings GROUP BY ALL
    UNION ALL SELECT 'windows', partition, max(sequence_number) FROM windows GROUP BY ALL
    UNION ALL SELECT 'alarms', partition, max(sequence_number) FROM alarms GROUP BY ALL
    UNION ALL SELECT 'rejected', partition, max(sequence_number) FROM rejected GROUP BY ALL
    UNION ALL SELECT 'batches', partition, max(last_sequence) FROM batches GROUP BY ALL
)
SELECT tbl || ' ' || partition || ': rows up to ' || high || ', mark ' || coalesce(mark::VARCHAR, 'none') AS detail
FROM highest LEFT JOIN marks USING (tbl, partition)
WHERE mark IS NULL OR high > mark
    OR (tbl = 'batches' AND high < mark AND NOT EXISTS (
        FROM lost l WHERE l.partition = highest.partition AND l.after = marks.mark))
"""

_DATES = """
WITH misplaced AS (
    SELECT 'readings' AS tbl, date, enqueued_time::DATE AS day FROM readings WHERE date <> enqueued_time::DATE
    UNION ALL SELECT 'windows', date, enqueued_time::DATE FROM windows WHERE date <> enqueued_time::DATE
    UNION ALL SELECT 'alarms', date, enqueued_time::DATE FROM alarms WHERE date <> enqueued_time::DATE
    UNION ALL SELECT 'rejected', date, enqueued_time::DATE FROM rejected WHERE date <> enqueued_time::DATE
    UNION ALL SELECT 'batches', date, enqueued_time_max::DATE FROM batches WHERE date <> enqueued_time_max::DATE
)
SELECT tbl || ': ' || count(*) || ' rows of ' || day || ' are stored as of ' || date AS detail
FROM misplaced GROUP BY tbl, date, day
"""

_JOURNALS = """
SELECT partition || ': ' || n || ' rows up to ordinal ' || high || ', the log says ' || coalesce(ordinal, -1) AS detail
FROM (
    SELECT partition, count(*) AS n, count(DISTINCT ordinal) AS distinct_n, min(ordinal) AS low, max(ordinal) AS high
    FROM journal GROUP BY partition
) LEFT JOIN ordinals USING (partition)
WHERE NOT (low = 0 AND n = distinct_n AND n = high + 1 AND high = coalesce(ordinal, -1))
"""

CHECKS = {
    "accounting": _ACCOUNTING,
    "sums": _SUMS,
    "disjoint": _DISJOINT,
    "reading-keys": _READING_KEYS,
    "window-keys": _WINDOW_KEYS,
    "alarm-keys": _ALARM_KEYS,
    "marks": _MARKS,
    "dates": _DATES,
    "journals": _JOURNALS,
}
"""Questions by the short names of `doctor_checks.QUESTIONS`."""

DICTIONARIES = """
SELECT partition, dictionary_version, dictionary_sha256, min(first_sequence), max(last_sequence)
FROM (
    SELECT *, sum(changed) OVER (PARTITION BY partition ORDER BY first_sequence) AS island
    FROM (
        SELECT *, (dictionary_sha256 IS DISTINCT FROM lag(dictionary_sha256)
            OVER (PARTITION BY partition ORDER BY first_sequence))::INT AS changed
        FROM batches
    )
) GROUP BY partition, dictionary_version, dictionary_sha256, island ORDER BY 1, 4
"""

PARTITIONS = """
SELECT b.partition, max(last_sequence) AS mark, sum(envelopes)::BIGINT AS envelopes,
    sum(rows_total)::BIGINT AS rows_total, sum(rows_windowed)::BIGINT AS windowed, sum(rows_late)::BIGINT AS late,
    sum(rows_duplicate)::BIGINT AS duplicate, sum(rows_rejected)::BIGINT AS rejected,
    sum(rows_windows)::BIGINT AS windows, sum(rows_alarms)::BIGINT AS alarms, any_value(coalesce(u.n, 0)) AS unsealed
FROM batches b LEFT JOIN (
    SELECT partition, count(*) AS n FROM readings t JOIN sealed s USING (partition)
    WHERE t.sequence_number > s.mark GROUP BY partition
) u USING (partition)
GROUP BY b.partition ORDER BY b.partition
"""
