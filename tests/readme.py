"""Makes the tables of README.md from the code that they describe: `make docs` writes them, a test compares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.metrics import MetricWrapperBase

from alumicatalyst import metrics
from alumicatalyst.cli.main import COMMANDS, EXIT_CODES
from alumicatalyst.settings import describe
from api.metrics import describe as describe_api
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

README = ROOT / "README.md"


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def commands() -> str:
    return table(
        ("command", "what it does"),
        (
            (" ".join(f"`{name} {each}`" for each in entry.functions) or f"`{name}`", entry.help)
            for name, entry in COMMANDS.items()
        ),
    )


def exit_codes() -> str:
    return table(("exit code", "means"), ((str(code), meaning) for code, meaning in EXIT_CODES.items()))


def settings() -> str:
    return table(
        ("setting", "default", "what it is, and what happens when it is wrong"),
        ((f"`{name}`", f"`{default}`", description) for name, default, description in describe()),
    )


def metric_names() -> str:
    found = (next(iter(each.describe())) for each in vars(metrics).values() if isinstance(each, MetricWrapperBase))
    return table(
        ("metric", "what it tells"),
        (
            (f"`{each.name}{'_total' if each.type == 'counter' else ''}`", each.documentation)
            for each in sorted(found, key=lambda each: each.name)
        ),
    )


def api_metric_names() -> str:
    return table(("metric", "what it tells"), ((f"`{name}`", meaning) for name, meaning in sorted(describe_api())))


TABLES = {
    "commands": commands,
    "exit codes": exit_codes,
    "settings": settings,
    "metrics": metric_names,
    "api metrics": api_metric_names,
}


def with_tables(text: str) -> str:
    """Return the page with every marked table made anew."""
    for name, make in TABLES.items():
        first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found_first, rest = text.partition(first)
        _, found_last, after = rest.partition(last)
        assert found_first, f"README.md does not mark the place of its table of {name}"
        assert found_last, f"README.md does not mark the end of its table of {name}"
        text = f"{before}{first}{make()}\n{last}{after}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
