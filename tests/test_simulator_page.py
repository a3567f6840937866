"""The page of a simulated plant: all its figures are there, it needs nothing from outside, and it can be made again."""

from __future__ import annotations

import json
import re
import shlex
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from alumicatalyst.cli import main as program
from alumicatalyst.dictionary import load
from alumicatalyst.simulator import Clocks, Plan, ProcessFaults
from alumicatalyst.simulator.page import About, draw, write_page
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.simulator.page.figures import Picture

SECOND = 1_000_000
START = 1_780_264_800 * SECOND
FOUR_HOURS = 4 * 3600
PANELS: dict[str, dict[str, dict[str, list[str] | None]]] = {
    "smelter": {
        "rectifier-1": {"all that is measured": ["Line current, kA"]},
        "pot": {
            "cell voltage": None,
            "feed cycle": ["cell voltage", "alumina feed"],
            "an anode effect": ["cell voltage, the build-up", "alumina feed", "cell voltage, the effect"],
            "bath temperature from the laboratory": ["bath_temperature"],
        },
        "furnace": {"all that is measured": ["Temperature, °C", "Status"]},
        "hall-1": {"all that is measured": ["Humidity, %", "Temperature, °C"]},
        "press": {
            "all that is measured": ["Pressure, bar", "Temperature, °C", "Vibration, mm/s", "Status"],
            "a quarter of an hour at work": ["pressure", "temperature", "vibration"],
        },
    },
    "contoso": {
        f"line-{line}-machine": {
            "all that is measured": ["Pressure, bar", "Temperature, °C", "Vibration, mm/s", "Status"],
            "a quarter of an hour at work": ["pressure", "temperature", "vibration"],
        }
        for line in (1, 2, 3)
    },
    "sensors": {kind: {"all that is measured": ["Humidity, %", "Temperature, °C"]} for kind in ("office", "store")},
}


class Page(HTMLParser):
    """Reads a page: its tags, what they refer to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.identifiers: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "action", "srcset"}:
                self.references.append(str(value))
            if name == "id":
                self.identifiers.append(str(value))
            self.references += re.findall(r"url\(([^)]*)\)", str(value))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def made(plant: str, path: Path, seconds: float = FOUR_HOURS, **plan: Any) -> list[Picture]:
    dictionary = load(ROOT / "flows" / f"{plant}.toml")
    faults = ProcessFaults(anode_effects=0.2, stuck=0.05, drifts=0.05, spikes=0.05)
    about = About(dictionary.sha256, "alumicatalyst simulate --plot <here>", seconds, "a little")
    compiled = json.loads(dictionary.to_json())
    return write_page(path, compiled, Plan(START, faults=faults, **plan), Clocks(), about)


@pytest.mark.parametrize("plant", PANELS)
def test_a_page_has_the_figures_of_each_kind_of_machine_and_needs_nothing_else(plant: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    pictures = made(plant, path)
    shown: dict[str, dict[str, Any]] = {}
    for one in pictures:
        shown.setdefault(one.kind.name, {})[one.heading] = list(one.panels)
    for name, figures in PANELS[plant].items():
        assert shown[name].keys() == figures.keys()
        for heading, panels in figures.items():
            assert panels is None or shown[name][heading] == panels
    assert shown.keys() == PANELS[plant].keys()
    text = path.read_text()
    assert len(text.encode()) < 3_000_000
    page = Page(text)
    assert page.tags.count("svg") == len(pictures)
    assert not {"script", "img", "link", "iframe", "object", "image"} & set(page.tags)
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.identifiers)
    assert len(set(page.identifiers)) == len(page.identifiers)
    assert not re.search(r"https?:|@import|javascript:", text)
    said = " ".join(page.text)
    for words in (json.loads(load(ROOT / "flows" / f"{plant}.toml").to_json())["name"], "version 1", "--plot <here>"):
        assert words in said
    assert "2026-05-31 22:00:00Z" in said
    assert "prefers-color-scheme: dark" in text
    # Every colour is one that the page decides on, in light and in dark.
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#ffffff"}


def test_every_fault_of_the_devices_shown_is_told_with_its_alarms(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    made("contoso", path)
    rows = re.findall(r"<tr>(<td>.*?)</tr>", path.read_text())
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert {row[4] for row in cells} == {"stuck", "drift", "spike"}
    assert any(row[5] != "none" for row in cells)
    assert cells == sorted(cells, key=lambda row: row[0])


def test_the_same_plan_gives_the_same_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made("sensors", tmp_path / name, 1800)
    made("sensors", tmp_path / "c", 1800, seed=2)
    contents = [(tmp_path / name).read_bytes() for name in ("a", "b", "c")]
    assert contents[0] == contents[1] != contents[2]


def test_a_thinned_line_keeps_the_least_and_the_greatest_value_and_breaks_where_nothing_came() -> None:
    times = np.arange(100_000, dtype=np.float64)
    values = np.sin(times / 300)
    values[[1_234, 77_777]] = 9.0, -7.0
    times[50_000:] += 20_000
    x, y = draw.thinned(times, values, 5.0)
    assert len(x) < 2_000
    assert (np.nanmax(y), np.nanmin(y)) == (9.0, -7.0)
    assert np.isnan(y).sum() == 1
    short = draw.thinned(times[:10], values[:10], 5.0)
    assert (short[1] == values[:10]).all()


def test_only_a_line_that_would_be_a_block_is_a_band() -> None:
    times = np.arange(50_000, dtype=np.float64)
    assert draw.banded(times, np.sin(times / 3_000)) is None
    assert draw.banded(times[:100], np.sin(times[:100])) is None
    steps = draw.banded(times, np.sin(times / 5))
    assert steps is not None
    assert (steps[1] <= steps[2]).all()
    assert (steps[2] <= steps[3]).all()


def simulate(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        program.main(["simulate", *arguments])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def test_the_command_makes_a_page_that_names_the_command_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, dictionary = tmp_path / "one.html", str(ROOT / "flows" / "sensors.toml")
    options = ["--seconds=3600", "--seed=3", "--disorder=0.1", "--clock-skew=0.2", "--pack=10", "--json"]
    code, out, _ = simulate([f"--dictionary={dictionary}", f"--plot={path}", *options], capsys)
    assert code == 0
    summary = json.loads(out)
    assert summary["bytes"] == path.stat().st_size
    assert (summary["figures"], summary["panels"]) == (2, 4)
    first = path.read_bytes()
    found = re.search(r"<dt>made by</dt><dd><code>(.*?)</code>", first.decode())
    assert found is not None
    words = shlex.split(found[1])
    assert words[:2] == ["alumicatalyst", "simulate"]
    assert simulate(words[2:], capsys)[0] == 0
    assert path.read_bytes() == first


def test_without_start_the_page_begins_at_midnight_where_the_plant_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.html"
    dictionary = ROOT / "flows" / "contoso.toml"
    assert simulate([f"--dictionary={dictionary}", f"--plot={path}", "--seconds=600"], capsys)[0] == 0
    assert re.search(r"<dt>from</dt><dd>\d{4}-\d\d-\d\d 00:00:00Z</dd>", path.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot=x.html", "--to=x.ndjson"], "couldn't send and plot at once"),
        (["--plot=x.html", "--readings=5"], "couldn't send and plot at once"),
        (["--plot=x.html", "--seconds=5"], "at least --seconds 60"),
    ],
)
def test_the_command_refuses_what_cannot_be_plotted(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = simulate([f"--dictionary={ROOT / 'flows' / 'sensors.toml'}", *arguments], capsys)
    assert code == 2
    assert message in " ".join(err.split())


def test_without_matplotlib_the_command_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "one.html"
    code, _, err = simulate([f"--dictionary={ROOT / 'flows' / 'sensors.toml'}", f"--plot={path}"], capsys)
    assert code == 2
    assert "pip install 'alumicatalyst[plot]'" in " ".join(err.split())
    assert not path.exists()
