"""The exact core, in Rust: decode, check, order, score, windows, alarms. Batches cross this boundary, rows never do."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, final

import pyarrow as pa

__all__ = [
    "Dictionary",
    "FixedWindows",
    "Output",
    "Partition",
    "file_rows",
    "leaf_hashes",
    "leaf_schema",
    "row_leaf",
    "rows_root",
    "schema",
    "state_info",
    "stored_schema",
]

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

@final
class Dictionary:
    """A data dictionary, checked and compiled. Immutable.

    Example:
        >>> dictionary = Dictionary.from_toml(open("flows/smelter.toml").read())
        >>> dictionary.name, len(dictionary.sha256)
        ('example-smelter', 64)
    """

    @staticmethod
    def from_toml(text: str) -> Dictionary:
        """Compile a dictionary as an engineer writes it.

        Raises:
            DictionaryError: It breaks the rules; every problem is listed with its line, key, value and what is allowed.
        """

    @staticmethod
    def from_json(text: str) -> Dictionary:
        """Load the compiled form, as `to_json` gives it and the lake keeps it.

        Raises:
            DictionaryError: The text is not a compiled dictionary.
        """

    def to_json(self) -> str:
        """Return the compiled form: defaults filled in, patterns expanded, keys sorted, no white space."""

    @property
    def sha256(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal: the name that state, journal and commits know the dictionary by."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def properties(self) -> list[str]:
        """Envelope properties that the mapping reads, without their `@`."""

@final
class Output:
    """Everything that a batch of envelopes yields. Frozen.

    The tables have the columns of `schema`.
    """

    @property
    def partition(self) -> str: ...
    @property
    def follows(self) -> int:
        """Last sequence number before this batch; -1 for none."""

    @property
    def first(self) -> int | None:
        """First sequence number that this output covers; None for a batch that brought nothing new."""

    @property
    def last(self) -> int:
        """Last sequence number that this output covers; equal to `follows` where `first` is None."""

    @property
    def readings(self) -> pa.RecordBatch:
        """Valid readings with their outcome."""

    @property
    def windows(self) -> pa.RecordBatch:
        """Windows that closed."""

    @property
    def alarms(self) -> pa.RecordBatch:
        """Transitions of alarms."""

    @property
    def latest(self) -> pa.RecordBatch:
        """The newest reading of each series that had readings in order: `schema("latest")`. Not stored in the lake."""

    @property
    def rejected(self) -> pa.RecordBatch:
        """Readings and envelopes that could not be taken in, with the reason and their bytes."""

    @property
    def counts(self) -> pa.RecordBatch:
        """One row per envelope, so that a sink can cut between any two of them."""

    @property
    def redelivered(self) -> int:
        """Envelopes dropped because their sequence number was not new; outside the accounting."""

    @property
    def decode_us(self) -> int:
        """Wall time of decoding, in microseconds."""

    @property
    def analyse_us(self) -> int:
        """Wall time of checks, order, scores, windows and alarms, in microseconds."""

    @property
    def partition_time_us(self) -> int | None:
        """Newest enqueued time of the partition, in microseconds since 1970; None before the first envelope."""

    @property
    def watermark_us(self) -> int | None:
        """Lowest watermark among the series that this batch read; None where it read none."""

    @property
    def dictionary_version(self) -> str: ...
    @property
    def dictionary_sha256(self) -> str: ...

@final
class Partition:
    """The operator of one source partition: all of its state, and nothing of any other.

    What it emits is a function of the partition's log alone, bit for bit the same however the log is cut into batches.

    Example:
        >>> partition = Partition("telemetry/1795256130123/0", dictionary)
        >>> output = partition.on_batch(envelopes)
        >>> later = Partition(partition.id, dictionary, partition.snapshot())
    """

    def __new__(cls, id: str, dictionary: Dictionary, state: bytes | None = None) -> Partition:
        """Start a partition, or go on from a state.

        Raises:
            StateError: The state is damaged, of another version, partition or dictionary.
        """

    @property
    def id(self) -> str: ...
    @property
    def last_sequence(self) -> int:
        """Last sequence number taken in; -1 before the first."""

    @property
    def journal_ordinal(self) -> int:
        """Ordinal of the last journal row applied; -1 for none."""

    @property
    def dictionary_sha256(self) -> str: ...
    def on_batch(self, envelopes: _ArrowArray) -> Output:
        """Take in a batch of envelopes; whatever their bodies are, it ends in rows.

        Args:
            envelopes: An Arrow record batch with the columns of `schema("envelopes")`; `offset` and `properties` may
                be missing.

        Raises:
            ValueError: This is no such record batch.
        """

    def on_stored(
        self,
        readings: Iterable[_ArrowArray],
        rejected: Iterable[_ArrowArray],
        others: Iterable[_ArrowArray],
        passed: Sequence[tuple[int, int | None]],
        after: int,
        upto: int,
    ) -> Output:
        """Take in rows that a lake holds, in place of the envelopes that they came from.

        Values are taken as they are, in their canonical unit; every check and all that follows it is made anew. What
        was rejected stays so. Tables may hold rows of other partitions, and may stand in any order.

        Args:
            readings: Record batches with the columns of `schema("readings")`, outcome and score aside.
            rejected: Record batches of `rejected`.
            others: Record batches that tell of more envelopes: partition, sequence_number and enqueued_time.
            passed: Envelopes that left no row: sequence number, and microseconds; None leaves partition time as it is.
            after: Rows up to this sequence number are passed over.
            upto: Rows above this one too.

        Raises:
            ValueError: These are no such rows.
        """

    def flush(self, sequence_number: int, ordinal: int) -> Output:
        """Close every open window, as a journal row says. The rows carry `sequence_number`.

        Raises:
            ValueError: The sequence number is not after the last one.
        """

    def change_dictionary(self, dictionary: Dictionary, ordinal: int) -> None:
        """Go on under another dictionary; what it no longer defines comes out with the next envelope."""

    def snapshot(self) -> bytes:
        """Return the state: versioned, with a checksum; the same state gives the same bytes."""

@final
class FixedWindows:
    """The window stage alone, for columns of numbers: batch work on rows that are decoded already, and its benchmark.

    Example:
        >>> windows = FixedWindows(length_us=60_000_000, hop_us=10_000_000, out_of_orderness_us=5_000_000)
        >>> closed = windows.on_readings(readings)
        >>> rest = windows.flush()
    """

    def __new__(cls, length_us: int, hop_us: int, out_of_orderness_us: int) -> FixedWindows:
        """Make windows of one length, beginning every hop, for any number of series.

        Raises:
            ValueError: The length is no positive multiple of the hop, or the lateness negative.
        """

    def on_readings(self, readings: _ArrowArray) -> pa.RecordBatch:
        """Take readings in arrival order; return the windows that closed.

        Args:
            readings: Columns `series` (uint32, dense from 0), `event_time` (int64, microseconds) and `value` (float64).

        Returns:
            Columns series, window_start, count, mean, min, max, first, last, std, first_time, last_time, slope_per_s.

        Raises:
            ValueError: A column is missing, of another type, or holds nulls.
        """

    def flush(self) -> pa.RecordBatch:
        """Close every open window and return them."""

def file_rows(table: str, batches: Iterable[_ArrowArray], batch: bytes) -> tuple[pa.RecordBatch, bytes]:
    """Return the rows of one new data file as it is to be written, and the root over them.

    Args:
        table: A table of the lake.
        batches: Rows with the columns of `schema(table)`, in the order of arrival.
        batch: The 16 bytes of the UUID that names the file's rows for good.

    Returns:
        The rows by series, time and arrival (`readings`, `windows`, `alarms`; else by arrival), every name told once,
        with the locators `_batch` and `_row`; and the 32 bytes of their root (LEDGER.md).

    Raises:
        ValueError: They are not rows of that table, or hold a NaN.
    """

def leaf_hashes(table: str, rows: _ArrowArray, batch: bytes) -> bytes:
    """Return the hashes of all leaves over a file's rows, 32 bytes each, from which inclusion is proven.

    Args:
        table: A table of the lake.
        rows: All rows of a batch in the order of `_row`; columns beyond those of `schema(table)` are passed over, and
            names may be plain strings.
        batch: The 16 bytes of its UUID.

    Raises:
        ValueError: They are not rows of that table, or hold a NaN.
    """

def leaf_schema(table: str) -> str:
    """Return what the leaves of a table hold: `dtl1/schema`, then a line with name and form for each column."""

def row_leaf(table: str, rows: _ArrowArray, batch: bytes, first: int) -> bytes:
    """Return the bytes of one leaf.

    Args:
        table: A table of the lake.
        rows: Its rows, 64 or, at the end of a file, fewer; see `leaf_hashes`.
        batch: The 16 bytes of the batch's UUID.
        first: The first row's number in the file, a multiple of 64.

    Raises:
        ValueError: They are not rows of that table or not of one leaf, or hold a NaN.
    """

def rows_root(table: str, rows: _ArrowArray, batch: bytes) -> bytes:
    """Return the root over a file's rows, 32 bytes; see `leaf_hashes`."""

def schema(table: str) -> pa.Schema:
    """Return the columns of a table as the core emits it.

    Raises:
        ValueError: There is no such table.
    """

def stored_schema(table: str) -> pa.Schema:
    """Return the columns of a table as the lake stores it: `date` first where it has one, the locators last.

    Raises:
        ValueError: The lake has no such table.
    """

def state_info(state: bytes) -> dict[str, Any]:
    """Return what a state says of itself: format, partition, last_sequence, journal_ordinal, dictionary_sha256.

    Raises:
        StateError: The bytes are damaged or no state.
    """
