"""`alumicatalyst ledger`: sign the lake's commits, show what was signed, prove it, and verify it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alumicatalyst.cli.lake_shown import Config, Json, Ledger, Uri

if TYPE_CHECKING:
    from alumicatalyst.lake.store import Store
    from alumicatalyst.ledger.entry import Entry
    from alumicatalyst.ledger.note import VerifierKey
    from alumicatalyst.ledger.place import Place
    from alumicatalyst.settings.schema import Settings


def run(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is new.")] = False,
    lake: Uri = None,
    ledger: Ledger = None,
    config: Config = None,
    accept_unkept_log: Annotated[
        bool,
        typer.Option(
            "--accept-unkept-log",
            help="Sign on although the last signed checkpoint beside the key is lost. Look at why first: a log that "
            "was rolled back is not found out any more by this process.",
        ),
    ] = False,
) -> None:
    """Sign every commit of the lake, until told to stop.

    One entry for each table and version, digests only, goes into an append-only log of static files; a checkpoint over
    all of them is signed with the key of the settings, which is made at the first start. One process does it; it may be
    killed at any moment and goes on where the log ends. SIGTERM and Ctrl-C look once more and publish.

    Examples:

        alumicatalyst ledger run

        alumicatalyst ledger run --once --lake file:var/lake --ledger file:var/ledger
    """
    import signal
    import threading

    from alumicatalyst import log
    from alumicatalyst.ledger.process import Ledger

    settings, place = _settings(config, lake, ledger)
    log.configure(settings.log_format)
    stop = threading.Event()

    def end(number: int, _frame: object) -> None:
        # A second one ends at once: whatever it cuts off was not signed, and the next start finds it again.
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    Ledger(place, _store(settings), interval_s=settings.ledger.interval_s, accept_unkept=accept_unkept_log).run(
        stop, once=once
    )


def log(
    table: Annotated[str | None, typer.Option(help="Only entries of this table.")] = None,
    tail: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the ledger's entries: one for each commit of each table.

    Examples:

        alumicatalyst ledger log --tail 20

        alumicatalyst ledger log --table readings --json
    """
    from alumicatalyst.errors import InputError
    from alumicatalyst.lake import tables
    from alumicatalyst.ledger.log import LogReader

    if table is not None and table not in tables.SPECS:
        raise InputError(
            f"couldn't show entries of {table!r}: there is no such table; tables are {', '.join(tables.SPECS)}"
        )
    _, place = _settings(config, None, ledger)
    found = _entries(LogReader(place.folder), table, tail)
    if as_json:
        for row in found:
            print(json.dumps(row, ensure_ascii=False))
    else:
        _print_entries(found)


def key(
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print the verifier key, all that anyone needs to verify; the first call makes the pair.

    Examples:

        alumicatalyst ledger key > plant.vkey
    """
    _, place = _settings(config, None, ledger)
    found = place.verifier_key() if place.vkey.exists() and not place.key.exists() else place.signing_key().verifier
    if as_json:
        print(json.dumps({"origin": found.name, "vkey": found.text(), "file": str(place.vkey)}))
    else:
        print(found.text())


def verify(
    proof: Annotated[
        Path | None, typer.Argument(help="A proof file, verified offline; without it log and lake.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="An earlier checkpoint: the log must begin with what it signed.")
    ] = None,
    vkey: Annotated[
        str | None, typer.Option("--key", help="File or text of the verifier key; ledger.key + .vkey otherwise.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Whatever is newer than the ledger, or that nothing names, is wrong too.")
    ] = False,
    lake: Uri = None,
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Verify log and lake, or one proof. Exits with 7 if anything is not what was signed.

    The log: the signature, every tile from the entries, every file. The lake: every commit file and data file by its
    digest, every row by the digests taken when it was first written, wherever maintenance has moved it since, and what
    readers are shown by the commit files. Commits newer than the ledger and files that nothing names are told as well.

    A proof needs nothing but its file and the verifier key: no lake, no log, no network.

    Examples:

        alumicatalyst ledger verify --checkpoint kept.checkpoint

        alumicatalyst ledger verify reading.tlog-proof --key plant.vkey
    """
    from alumicatalyst.cli.ledger_report import print_proof, print_report
    from alumicatalyst.cli.progress import progress
    from alumicatalyst.errors import InputError

    if proof is not None:
        if checkpoint is not None or strict or lake is not None or ledger is not None:
            raise InputError(
                "couldn't verify the proof so: it is verified by itself; leave out --checkpoint, --strict, --lake and "
                "--ledger, or the proof"
            )
        from alumicatalyst.ledger.evidence import verify as verify_proof

        print_proof(verify_proof(_read(proof), _vkey(vkey, config)), as_json=as_json)
        return
    from alumicatalyst.ledger.verify import verify as verify_all
    from alumicatalyst.ledger.verify_log import read_earlier
    from alumicatalyst.ledger.verify_report import Report

    settings, place = _settings(config, lake, ledger)
    key = _vkey(vkey, config)
    # What is kept beside the settings' own key says nothing of another log.
    own = place.kept if vkey is None and place.kept.exists() else None
    kept = [each for each in (checkpoint, own) if each is not None]
    earlier = [read_earlier(each, key) for each in kept]
    report = Report()
    with progress("verifying", quiet=as_json) as show:
        if show is not None:
            report.tell = lambda text: show(lambda _: text)
        verify_all(place.folder, key, earlier, _store(settings)(), report)
    print_report(report, strict=strict, as_json=as_json)
    if not report.is_ok(strict=strict):
        raise typer.Exit(7)


def prove(
    output: Annotated[Path, typer.Option("-o", "--output", help="The proof file to write.")],
    row: Annotated[
        str | None, typer.Option("--row", help="Table and values that only one row has: 'readings device=... ...'.")
    ] = None,
    commit: Annotated[str | None, typer.Option("--commit", help="Table and version of a commit: readings@17.")] = None,
    vkey: Annotated[
        str | None, typer.Option("--key", help="File or text of the verifier key; ledger.key + .vkey otherwise.")
    ] = None,
    lake: Uri = None,
    ledger: Ledger = None,
    config: Config = None,
) -> None:
    r"""Write a proof of one row or one commit, which `ledger verify` checks offline with the verifier key alone.

    A row is proven from wherever maintenance has moved it. The proof discloses the at most 64 rows of its leaf.

    Examples:

        alumicatalyst ledger prove -o reading.tlog-proof \
            --row "readings device=pot-001 metric=cell_voltage event_time=2026-11-21T10:00:00Z"

        alumicatalyst ledger prove --commit readings@17 -o commit.tlog-proof
    """
    from alumicatalyst.errors import InputError
    from alumicatalyst.ledger.log import LogReader
    from alumicatalyst.ledger.prove import prove_commit, prove_row

    settings, place = _settings(config, lake, ledger)
    key, log = _vkey(vkey, config), LogReader(place.folder)
    if (row is None) == (commit is None):
        raise InputError("couldn't prove anything: give either --row or --commit")
    if commit is not None:
        made = prove_commit(log, key, commit)
    else:
        from alumicatalyst.lake import Lake

        made = prove_row(
            Lake.open(settings.lake.uri, credential=settings.lake.credential, create=False), log, key, row or ""
        )
    try:
        output.write_bytes(made)
    except OSError as error:
        raise InputError(f"couldn't write {output}: {error.strerror}; name a place you may write") from error


def _read(path: Path) -> bytes:
    from alumicatalyst.errors import InputError
    from alumicatalyst.ledger.proof import PROOF_BYTES_MAX

    try:
        with path.open("rb") as file:
            return file.read(PROOF_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"couldn't read {path}: {error.strerror}; name a proof file") from error


def _vkey(named: str | None, config: Path | None) -> VerifierKey:
    from alumicatalyst.ledger.place import read_vkey

    return _settings(config, None, None)[1].verifier_key() if named is None else read_vkey(named)


def _settings(config: Path | None, lake: str | None, ledger: str | None) -> tuple[Settings, Place]:
    from alumicatalyst.ledger.place import Place
    from alumicatalyst.settings import load_settings

    if ledger is not None and not ledger.startswith("file:"):
        ledger = f"file:{ledger}"
    settings = load_settings(config, lake__uri=lake, ledger__uri=ledger)
    return settings, Place.of(settings.ledger)


def _store(settings: Settings) -> Callable[[], Store]:
    from alumicatalyst.lake.store import open_store

    return lambda: open_store(settings.lake.uri, credential=settings.lake.credential, create=False)


def _entries(reader: Any, table: str | None, tail: int | None) -> Iterator[dict[str, Any]]:
    from collections import deque

    from alumicatalyst.ledger import entry

    def rows() -> Iterator[dict[str, Any]]:
        for index, data in enumerate(reader.entries(0, reader.size)):
            found = entry.parse(data)
            if table is None or found.table == table:
                yield _entry_row(index, found)

    if tail is None:
        yield from rows()
    else:
        yield from deque(rows(), maxlen=tail)


def _entry_row(index: int, found: Entry) -> dict[str, Any]:
    """Describe an entry; rows and files are counted where the entry itself names them."""
    from alumicatalyst.ledger.entry import Tree

    def count(kind: Any) -> int:
        return kind.lines if isinstance(kind, Tree) else len(kind)

    return {
        "index": index,
        "table": found.table,
        "version": found.version,
        "operation": found.operation,
        "rows": None if isinstance(found.rows, Tree) else sum(each.rows for each in found.rows),
        "files": count(found.rows) + count(found.adds),
        "removed": count(found.removes),
    }


def _print_entries(found: Iterator[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE)
    names = ("index", "table", "version", "operation", "rows", "files", "removed")
    for name in names:
        table.add_column(name, no_wrap=True, justify="left" if name in {"table", "operation"} else "right")
    count = 0
    for row in found:
        count += 1
        values = (
            "many" if value is None else f"{value:,}" if isinstance(value, int) else value for value in row.values()
        )
        table.add_row(*values)
    if count:
        console.print(table)
    console.print(f"{count:,} entr{'y' if count == 1 else 'ies'}")
