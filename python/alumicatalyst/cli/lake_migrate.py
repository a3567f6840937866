"""`alumicatalyst lake migrate`: gives the tables of an older version the columns and tables of this one."""

from __future__ import annotations

import json

from alumicatalyst.cli.lake_shown import Config, DryRun, Json, Uri


def migrate(uri: Uri = None, config: Config = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Add the columns and tables that this version writes and an older one did not.

    Each table's change is one commit; no file is rewritten, old rows are empty where they have less, and what the
    ledger has signed stays provable. Stop the flow of the older version first: it goes on, but cannot start again.

    Examples:

        alumicatalyst lake migrate --dry-run

        alumicatalyst lake migrate --lake file:var/lake
    """
    from alumicatalyst.lake.migrate import migrate as run
    from alumicatalyst.lake.store import open_store
    from alumicatalyst.settings import load_settings

    lake = load_settings(config, lake__uri=uri).lake
    steps = run(open_store(lake.uri, credential=lake.credential, create=False), dry_run=dry_run)
    if as_json:
        print(json.dumps({"steps": [each.as_dict() for each in steps]}))
        return
    for each in steps:
        done = "would be " if dry_run else ""
        print(f"{each.table}: {done}{'created' if each.created else 'given ' + ', '.join(each.columns)}")
    if not steps:
        print("nothing to do: every table has what this version writes")
