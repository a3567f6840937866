"""What `lake query` prints is readable whole: in a file, and on a terminal of any width."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from alumicatalyst.cli.lake import query

if TYPE_CHECKING:
    import pytest

    from alumicatalyst.lake import Lake

COLUMNS = [f"a_column_with_a_long_name_{number}" for number in range(8)]
SQL = "SELECT " + ", ".join(f"'value {name} [red]' AS {name}" for name in COLUMNS)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(lake: Lake, monkeypatch: pytest.MonkeyPatch, width: int, *, terminal: bool, sql: str = SQL) -> str:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    query(sql, uri=lake.store.root)
    return out.getvalue()


def test_a_row_is_one_whole_line_where_it_is_no_terminal(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(lake, monkeypatch, 80, terminal=False).splitlines()
    assert [line.split() for line in lines if "a_column" in line and "value" not in line] == [COLUMNS]
    (row,) = [line for line in lines if "value" in line]
    assert [part.strip() for part in row.split("   ") if part.strip()] == [f"value {name} [red]" for name in COLUMNS]
    assert lines[-1] == "1 row"


def test_a_row_that_is_too_wide_for_a_terminal_is_printed_column_by_column(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(lake, monkeypatch, 80, terminal=True)
    assert "…" not in text
    for name in COLUMNS:
        assert f"value {name} [red]" in text
    assert max(map(len, printed(lake, monkeypatch, 400, terminal=True).splitlines())) > 80, "here it fits"
    narrow = printed(lake, monkeypatch, 40, terminal=True, sql=f"SELECT '{'x' * 200}' AS body")
    assert narrow.count("x") == 200
