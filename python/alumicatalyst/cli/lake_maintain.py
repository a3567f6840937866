"""`alumicatalyst lake compact`, `vacuum`, `trim`, `expire`, `maintain`: the lake's upkeep, by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alumicatalyst.cli.lake_shown import Config, DryRun, Json, Ledger, Uri

if TYPE_CHECKING:
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.maintenance.lease import Lease
    from alumicatalyst.maintenance.maintain import Limits, Maintained
    from alumicatalyst.settings.schema import Settings

    Do = Callable[["_Work"], Maintained]

_Tables = Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be given several times.")]
_Days = Annotated[
    int | None, typer.Option(min=0, help="Days that these rows are kept, 0 for ever; without any, as the settings say.")
]
_WithoutLedger = Annotated[
    bool,
    typer.Option(
        "--without-ledger",
        help="The lake has no ledger. Of a lake that has one, it might lose what was never signed.",
    ),
]


def compact(
    tables: _Tables = None,
    target_mb: Annotated[
        int | None, typer.Option(min=1, max=512, help="Megabytes of a new file; maintenance.target_mb otherwise.")
    ] = None,
    files_min: Annotated[int, typer.Option(min=2, help="Small files that a day which still grows has at least.")] = 8,
    uri: Uri = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Rewrite small files, day by day, into a few that are sorted by device, metric and time.

    No row changes, and what the ledger has signed stays provable. A flow may be writing meanwhile, and any process may
    be killed at any moment. One process at a time maintains a lake: another one exits with 5 and says who is at it.

    Examples:

        alumicatalyst lake compact

        alumicatalyst lake compact --table readings --target-mb 128
    """
    from alumicatalyst.maintenance.maintain import Maintained

    def do(work: _Work) -> Maintained:
        from alumicatalyst.maintenance.compact import compact as run

        size = target_mb or work.limits.target_mb
        done = run(
            work.lake, work.lease, work.names, target_mb=size, files_min=files_min, threads=_threads(), say=work.say
        )
        return Maintained(compacted=done)

    _maintain(do, tables, uri, config, dry_run=dry_run, as_json=as_json)


def vacuum(
    tables: _Tables = None,
    days: Annotated[
        float | None, typer.Option(min=0, max=7, help="Days that files stay; maintenance.vacuum_days otherwise.")
    ] = None,
    uri: Uri = None,
    ledger: Ledger = None,
    without_ledger: _WithoutLedger = False,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete files that no table needs any more, or that a crash has left.

    Never a file that is part of a table, that a running flow is about to commit, or that the ledger has not signed the
    commits of. Reading as of a version whose files are gone ends here.

    Examples:

        alumicatalyst lake vacuum --dry-run

        alumicatalyst lake vacuum --days 1
    """
    from alumicatalyst.maintenance.maintain import Maintained

    def do(work: _Work) -> Maintained:
        from alumicatalyst.maintenance.vacuum import vacuum as run

        kept = work.limits.vacuum_days if days is None else days
        return Maintained(
            vacuumed=run(work.lake, work.lease, work.names, signed=work.signed(), days=kept, say=work.say)
        )

    _maintain(do, tables, uri, config, ledger, without_ledger=without_ledger, dry_run=dry_run, as_json=as_json)


def trim(
    tables: _Tables = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Days that commits stay; maintenance.log_days otherwise.")
    ] = None,
    uri: Uri = None,
    ledger: Ledger = None,
    without_ledger: _WithoutLedger = False,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Move old commits out of the tables' logs into archives, from which `ledger verify` still reads them.

    Only commits that lie before a Delta checkpoint and that the ledger has signed, and none younger than an hour.

    Examples:

        alumicatalyst lake trim

        alumicatalyst lake trim --days 90 --dry-run
    """
    from alumicatalyst.maintenance.maintain import Maintained

    def do(work: _Work) -> Maintained:
        from alumicatalyst.maintenance.trim import trim as run

        kept = work.limits.log_days if days is None else days
        return Maintained(trimmed=run(work.lake, work.lease, work.names, signed=work.signed(), days=kept, say=work.say))

    _maintain(do, tables, uri, config, ledger, without_ledger=without_ledger, dry_run=dry_run, as_json=as_json)


def expire(
    readings: _Days = None,
    rejected: _Days = None,
    windows: _Days = None,
    uri: Uri = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take days of readings, rejected rows or windows out of the lake that are older than they are to be kept.

    A day goes as a whole, by one commit a table that counts its rows by partition and outcome: stored + expired stay
    what batches counts. Days with rows that are not sealed yet stay for now. Nobody reads expired rows any more, and
    `lake vacuum` deletes their files. Alarms, batches and the journal are kept for ever.

    Examples:

        alumicatalyst lake expire --dry-run

        alumicatalyst lake expire --readings 365 --rejected 90
    """
    from alumicatalyst.maintenance.maintain import Maintained

    def do(work: _Work) -> Maintained:
        from alumicatalyst.maintenance.expire import expire as run
        from alumicatalyst.maintenance.lease import today

        said = {"readings": readings, "rejected": rejected, "windows": windows}
        days = {name: kept for name, kept in said.items() if kept is not None} or work.limits.expire_days
        done = run(work.lake, days=days, lease=work.lease, today=today(work.lease), dry_run=dry_run)
        return Maintained(expired=done)

    _maintain(do, None, uri, config, dry_run=dry_run, as_json=as_json)


def maintain(
    tables: _Tables = None,
    uri: Uri = None,
    ledger: Ledger = None,
    without_ledger: _WithoutLedger = False,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let rows expire, compact, vacuum and trim, as the settings of maintenance say.

    The flow does the same by itself where maintenance.interval_s is set.

    Examples:

        alumicatalyst lake maintain

        alumicatalyst lake maintain --dry-run --json
    """

    def do(work: _Work) -> Maintained:
        from alumicatalyst.maintenance.maintain import maintain as run

        work.signed()  # Said before anything is done, not after an hour of it.
        return run(
            work.lake,
            work.lease,
            work.limits,
            signed=work.signed,
            names=work.names,
            threads=_threads(),
            say=work.say,
        )

    _maintain(do, tables, uri, config, ledger, without_ledger=without_ledger, dry_run=dry_run, as_json=as_json)


class _Work:
    """What a command works with."""

    def __init__(
        self, lake: Lake, lease: Lease | None, settings: Settings, names: Sequence[str], *, without_ledger: bool
    ) -> None:
        from alumicatalyst.maintenance.maintain import Limits

        self.lake, self.lease, self.names = lake, lease, names
        self.limits: Limits = Limits.of(settings.maintenance)
        self.say: Callable[[str], None] = lambda _: None
        self._settings = settings
        self._without_ledger = without_ledger

    def signed(self) -> Mapping[str, int] | None:
        """Return the last version of each table that the ledger has signed."""
        if self._without_ledger:
            return None
        from alumicatalyst.ledger.cursor import cursor
        from alumicatalyst.ledger.place import Place

        return cursor(self.lake, Place.of(self._settings.ledger).folder)


def _maintain(
    do: Do,
    named: list[str] | None,
    uri: str | None,
    config: Path | None,
    ledger: str | None = None,
    *,
    without_ledger: bool = False,
    dry_run: bool,
    as_json: bool,
) -> None:
    from alumicatalyst.cli.progress import progress
    from alumicatalyst.errors import InputError
    from alumicatalyst.lake import tables
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.maintenance.lease import Lease
    from alumicatalyst.settings import load_settings

    unknown = [each for each in named or [] if each not in tables.SPECS]
    if unknown:
        raise InputError(f"couldn't find the table {unknown[0]!r}; tables are {', '.join(tables.SPECS)}")
    if ledger is not None and not ledger.startswith("file:"):
        ledger = f"file:{ledger}"
    settings = load_settings(config, lake__uri=uri, ledger__uri=ledger)
    lake = Lake.open(
        settings.lake.uri, credential=settings.lake.credential, create=False, patience_s=settings.lake.patience_s
    )
    names = [each for each in tables.SPECS if not named or each in named]
    with ExitStack() as stack:
        lease = None if dry_run else stack.enter_context(Lease(lake))
        work = _Work(lake, lease, settings, names, without_ledger=without_ledger)
        show = stack.enter_context(progress("maintaining", quiet=as_json))
        if show is not None:
            work.say = lambda text: show(lambda _: text)
        done = do(work)
    if as_json:
        print(json.dumps({"dry_run": dry_run, **done.as_dict()}, default=str, ensure_ascii=False))
    else:
        _print(done, dry_run=dry_run)
    if any(each.unreadable for each in done.compacted):
        raise typer.Exit(1)


def _threads() -> int:
    import os

    return os.cpu_count() or 1


def _print(done: Maintained, *, dry_run: bool) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False)
    lines = [line for line in _lines(done) if line]
    for line in lines:
        console.print(line)
    if dry_run:
        console.print("This was a dry run: nothing was changed.")
    elif not lines:
        console.print("There was nothing to do.")


def _lines(done: Maintained) -> list[str]:
    """Return a line for each table in which something was done, or would be."""
    lines = []
    for expired in done.expired:
        if expired.files:
            days = f"{expired.days[0]} to {expired.days[-1]}"
            lines.append(f"{expired.table}: {expired.total:,} rows of {days} expired, in {expired.files:,} files")
        if expired.kept:
            days = ", ".join(expired.kept)
            lines.append(f"{expired.table}: {days} stays, as rows of it are not sealed yet; a flow has to go on first")
    for compacted in done.compacted:
        if compacted.files_before:
            became = f"{compacted.files_before:,} files compacted into {compacted.files_after:,}"
            sizes = (compacted.bytes_before, compacted.bytes_after)
            after = ", {} to {}".format(*map(_size, sizes)) if compacted.bytes_after else ""
            lines.append(f"{compacted.table}: {became}, {compacted.rows:,} rows{after}")
        if compacted.dropped:
            lines.append(f"{compacted.table}: {compacted.dropped:,} groups of files were replaced by others meanwhile")
        if compacted.unreadable:
            lines.append(
                f"{compacted.table}: {compacted.unreadable:,} groups of files stay as they are, as one of each is "
                "damaged; `alumicatalyst lake doctor` names it"
            )
    for vacuumed in done.vacuumed:
        name = vacuumed.table or "unfinished writes"
        if vacuumed.files:
            lines.append(f"{name}: {vacuumed.files:,} files deleted, {_size(vacuumed.bytes)}")
        if vacuumed.unsigned:
            lines.append(f"{name}: {vacuumed.unsigned:,} files wait until the ledger has signed what names them")
    lines += [
        f"{each.table}: {each.commits:,} commits archived, {each.checkpoints:,} checkpoints deleted"
        for each in done.trimmed
        if each.commits or each.checkpoints
    ]
    return lines


def _size(count: int) -> str:
    size: Any = count
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1_000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1_000
    return ""
