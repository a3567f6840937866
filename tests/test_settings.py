"""Settings come from four places in a fixed order, and what is wrong is named without ever being repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import SettingsError
from alumicatalyst.settings import Secret, describe, load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_every_setting_has_its_default() -> None:
    settings = load_settings()
    assert settings.source.name == "telemetry"
    assert settings.source.connection_string == "env:EVENTHUBS_CONNECTION_STRING"
    assert settings.lake.flush_rows_max == 1_000_000
    assert settings.runner.metrics_port == 9140


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "alumicatalyst.toml").write_text(
        '[source]\nname = "file"\nhub = "file"\nconsumer_group = "file"\n[lake]\nflush_interval_s = 3\n'
    )
    monkeypatch.setenv("ALUMICATALYST_SOURCE__NAME", "environment")
    monkeypatch.setenv("ALUMICATALYST_SOURCE__HUB", "environment")
    settings = load_settings(source__name="flag", lake__uri=None)
    assert (settings.source.name, settings.source.hub, settings.source.consumer_group) == (
        "flag",
        "environment",
        "file",
    )
    assert settings.source.kind == "eventhubs"
    assert settings.lake.flush_interval_s == 3.0
    assert settings.lake.uri == "file:var/lake"


def test_a_named_file_is_read_instead_and_must_be_there(folder: Path) -> None:
    (folder / "other.toml").write_text('log_format = "json"\n')
    assert load_settings("other.toml").log_format == "json"
    with pytest.raises(SettingsError, match=r"couldn't read settings file absent\.toml: No such file"):
        load_settings("absent.toml")


def test_a_file_that_is_not_toml_is_refused_with_the_line(folder: Path) -> None:
    (folder / "alumicatalyst.toml").write_text("source = \n")
    with pytest.raises(SettingsError, match=r"alumicatalyst\.toml.*line 1.*correct its TOML"):
        load_settings()


def test_an_unknown_key_names_itself_the_allowed_ones_and_the_nearest(folder: Path) -> None:
    (folder / "alumicatalyst.toml").write_text("[source]\nhubb = 'x'\n")
    with pytest.raises(
        SettingsError, match=r"source\.hubb \(alumicatalyst\.toml\).*allowed are kind, name.*mean hub\?"
    ):
        load_settings()


def test_an_unknown_section_is_refused(folder: Path) -> None:
    (folder / "alumicatalyst.toml").write_text("[lakes]\nuri = 'x'\n")
    with pytest.raises(
        SettingsError,
        match=r"lakes .*allowed are dictionary, data_dir, log_format, source, lake, api, ledger, maintenance, runner",
    ):
        load_settings()


def test_a_section_cannot_be_a_value(folder: Path) -> None:
    (folder / "alumicatalyst.toml").write_text("lake = 'var/lake'\n")
    with pytest.raises(SettingsError, match=r"setting lake .*section"):
        load_settings()


@pytest.mark.parametrize("variable", ["ALUMICATALYST_SOURCE__HUBB", "ALUMICATALYST_LAKE", "ALUMICATALYST_LOGFORMAT"])
def test_an_unknown_variable_is_refused_by_name(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(SettingsError, match=rf"environment variable {variable}: .*did you mean ALUMICATALYST_"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source__kind", "carrier pigeon"),
        ("source__name", "two words"),
        ("source__name", ""),
        ("source__partitions", "0;1"),
        ("source__partitions", "2/2"),
        ("source__start", "yesterday"),
        ("source__start", "2026-01-01T00:00:00"),
        ("source__batch_envelopes_max", "0"),
        ("source__batch_bytes_max", "1"),
        ("lake__flush_interval_s", "nan"),
        ("lake__flush_interval_s", "0"),
        ("lake__state_interval_s", "-1"),
        ("lake__credential", "hunter2"),
        ("api__url", "ftp://api.example"),
        ("api__url", "http://"),
        ("api__url", "http://127.0.0.1:port"),
        ("api__url", "http://api.example:8040"),
        ("api__url", "https://user:word@api.example"),
        ("api__url", "https://api.example/?key=x"),
        ("api__port", "65536"),
        ("api__queue_rows_max", "0"),
        ("api__retention_days", "inf"),
        ("api__database_url", "mysql://host/store"),
        ("api__database_url", "sqlite://"),
        ("ledger__uri", "var/ledger"),
        ("runner__kind", "spark"),
        ("runner__metrics_port", "65536"),
        ("log_format", "xml"),
    ],
)
def test_a_value_that_is_not_allowed_names_its_setting_and_its_place(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"ALUMICATALYST_{name.upper()}"
    monkeypatch.setenv(variable, value)
    dotted = name.replace("__", ".")
    with pytest.raises(SettingsError, match=f"^couldn't use setting {dotted} \\(environment variable {variable}\\): "):
        load_settings()


@pytest.mark.parametrize("value", ["all", "0", "0,2,17", "0/1", "3/4", "telemetry-a,telemetry-b"])
def test_the_forms_of_partitions_are_accepted(value: str) -> None:
    assert load_settings(source__partitions=value).source.partitions == value


@pytest.mark.parametrize("value", ["earliest", "latest", "2026-01-31T06:00:00Z", "2026-01-31T06:00:00.5+01:00"])
def test_the_forms_of_start_are_accepted(value: str) -> None:
    assert load_settings(source__start=value).source.start == value


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(source__kind="pigeon", lake__flush_rows_max=0, runner__kind="x")
    assert len(str(caught.value).splitlines()) == 3


def test_several_paths_come_as_a_list_or_with_commas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "alumicatalyst.toml").write_text('[source]\npaths = ["a.csv", "b.csv"]\n')
    assert load_settings().source.paths == ["a.csv", "b.csv"]
    monkeypatch.setenv("ALUMICATALYST_SOURCE__PATHS", "c.csv, d.csv")
    assert load_settings().source.paths == ["c.csv", "d.csv"]


LITERAL = "Endpoint=sb://plant.example/;SharedAccessKeyName=listen;SharedAccessKey=dGhpcyBpcyBzZWNyZXQ="


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8040", "http://localhost", "http://[::1]:1", "https://api.example/x"]
)
def test_the_forms_of_the_apis_address_are_accepted(url: str) -> None:
    assert load_settings(api__url=url + "/").api.url == url


@pytest.mark.parametrize("address", ["postgresql://me:hunter2@db/store", "postgresql:///store?password=hunter2"])
def test_a_database_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SettingsError, match="by reference, never itself") as caught:
        load_settings(api__database_url=address)
    assert "hunter2" not in str(caught.value)


def test_a_database_address_is_given_as_it_is_or_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("sqlite:///var/api.sqlite", "sqlite:////srv/api.sqlite", "postgresql://me@db:5432/store"):
        assert load_settings(api__database_url=address).api.reveal_database_url() == address
    monkeypatch.setenv("HOT_STORE", "postgresql://me:hunter2@db/store")
    settings = load_settings(api__database_url="env:HOT_STORE").api
    assert settings.reveal_database_url() == "postgresql://me:hunter2@db/store"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("setting", ["source__connection_string", "lake__credential", "api__key"])
def test_a_secret_itself_is_refused_and_not_repeated(setting: str) -> None:
    with pytest.raises(SettingsError, match="by reference, never itself") as caught:
        load_settings(**{setting: LITERAL})
    shown = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    assert "dGhpcyBpcyBzZWNyZXQ" not in shown
    assert "plant.example" not in shown
    assert caught.value.__suppress_context__


def test_a_secret_is_revealed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_STRING", f" {LITERAL}\n")
    secret = load_settings(source__connection_string="env:HUB_STRING").source.connection_string
    assert secret.reveal() == LITERAL
    assert LITERAL not in repr(secret)


def test_a_secret_is_revealed_from_a_file(folder: Path) -> None:
    (folder / "hub.txt").write_text(LITERAL + "\n")
    assert Secret("file:hub.txt").reveal() == LITERAL


@pytest.mark.parametrize(
    ("reference", "content", "fault"),
    [
        ("env:NOT_SET_ANYWHERE", None, "not set"),
        ("file:secret", None, "No such file"),
        ("file:secret", b" \n", "empty"),
        ("file:secret", b"\xff\xfe", "not UTF-8"),
        ("file:secret", b"x" * 70_000, "larger than"),
    ],
)
def test_a_secret_that_cannot_be_read_is_named_by_its_reference(
    reference: str, content: bytes | None, fault: str, folder: Path
) -> None:
    if content is not None:
        (folder / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match=f"couldn't read secret {reference}: .*{fault}"):
        Secret(reference).reveal()


@pytest.mark.parametrize("reference", ["", "env:", "file: ", "keyvault:x", "plain"])
def test_anything_but_a_reference_is_no_secret(reference: str) -> None:
    with pytest.raises(ValueError, match="by reference"):
        Secret(reference)


def test_every_setting_says_what_happens_when_it_is_wrong() -> None:
    for name, _, description in describe():
        assert len(description) > 60, name


def test_settings_cannot_be_changed_once_read() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.lake.uri = "file:elsewhere"


def test_no_settings_are_read_at_import(folder: Path) -> None:
    (folder / "alumicatalyst.toml").write_text("nonsense = true\n")
    subprocess.run(
        [sys.executable, "-c", "import alumicatalyst.settings, alumicatalyst.cli.main"],
        check=True,
        cwd=folder,
        env=os.environ | {"ALUMICATALYST_NONSENSE": "1"},
    )
