"""Reads the settings: command line over environment over file over default, with every problem named by its setting."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource
from pydantic_settings import SettingsError as SourceUnreadable

from alumicatalyst.errors import SettingsError
from alumicatalyst.settings.schema import ENVIRONMENT_PREFIX, Settings
from alumicatalyst.settings.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

SETTINGS_FILE = "alumicatalyst.toml"
# Read by the test suite and by fault injection, never by a running system.
_NOT_SETTINGS = ("ALUMICATALYST_DATA", "ALUMICATALYST_TEST_")


def load_settings(config: str | Path | None = None, **overrides: object) -> Settings:
    """Read the settings of this process.

    Args:
        config: The settings file; without it `alumicatalyst.toml` in the working folder, if there is one.
        overrides: Values from the command line by their name, a section's with two underscores:
            `lake__uri="file:elsewhere"`.
            None means "not given".

    Returns:
        The settings, checked.

    Raises:
        SettingsError: A key is unknown, a value is not allowed, or a file cannot be read; every problem is listed.

    Example:
        >>> load_settings(lake__uri="file:elsewhere").lake.uri
        'file:elsewhere'
    """
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        if value is not None:
            *sections, key = name.split("__")
            place = given
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
    from_environment = _from_environment()
    from_file, file = _from_file(config)
    merged = _merge(_merge(from_file, from_environment), given)
    try:
        return Settings(**merged)
    except ValidationError as error:
        problems = [_problem(detail, file, from_environment, given) for detail in error.errors(include_input=False)]
        raise SettingsError("\n".join(problems)) from None


def describe() -> Iterator[tuple[str, str, str]]:
    """Yield every setting as (name, default, what happens when it is wrong), in the order of the file."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for key, inner in field.annotation.model_fields.items():
                yield f"{name}.{key}", _shown(inner), cast("str", inner.description)
        else:
            yield name, _shown(field), cast("str", field.description)


def _from_environment() -> dict[str, Any]:
    known = {name.replace(".", "__").upper() for name, _, _ in describe()}
    for variable in sorted(os.environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(_NOT_SETTINGS):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
            raise SettingsError(
                f"couldn't read environment variable {variable}: there is no setting of that name; unset it, or did "
                f"you mean {ENVIRONMENT_PREFIX}{near}?"
            )
    try:
        return EnvSettingsSource(Settings)()
    except SourceUnreadable as error:
        raise SettingsError(
            f"couldn't read environment variables {ENVIRONMENT_PREFIX}*: {error}; correct or unset it"
        ) from None


def _from_file(config: str | Path | None) -> tuple[dict[str, Any], Path]:
    file = Path(SETTINGS_FILE if config is None else config)
    if config is None and not file.exists():
        return {}, file
    try:
        # The library's own reader skips a file that is not there, and one that was named must be.
        file.open("rb").close()
        return TomlConfigSettingsSource(Settings, toml_file=file).toml_data, file
    except OSError as error:
        raise SettingsError(
            f"couldn't read settings file {file}: {error.strerror}; name one that can be read"
        ) from None
    except ValueError as error:
        raise SettingsError(f"couldn't read settings file {file}: {error}; correct its TOML") from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        former = merged.get(key)
        merged[key] = _merge(former, value) if isinstance(former, dict) and isinstance(value, dict) else value
    return merged


def _problem(detail: ErrorDetails, file: Path, from_environment: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Say which setting is wrong, where it stands and what is allowed, never what it was: it may be a secret."""
    # Beyond a setting's name pydantic adds which member of a union or list it tried.
    path = [str(part) for part in detail["loc"]][:2]
    if path and path[0] not in _sections():
        path = path[:1]
    name = ".".join(path)
    if _has(given, path):
        where = "the command line"
    elif _has(from_environment, path):
        where = f"environment variable {ENVIRONMENT_PREFIX}{'__'.join(path).upper()}"
    else:
        where = str(file)
    kind = detail["type"]
    if kind == "extra_forbidden":
        section = _sections().get(path[0]) if len(path) > 1 else Settings
        keys = list(section.model_fields) if section else []
        near = difflib.get_close_matches(path[-1], keys, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"couldn't use setting {name} ({where}): there is no such key; allowed are {', '.join(keys)}{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "model_type":
        message = "it is a section of settings, not a value"
    return f"couldn't use setting {name} ({where}): {message[:1].lower()}{message[1:]}"


def _sections() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def _has(tree: Mapping[str, Any], path: list[str]) -> bool:
    node: Any = tree
    for part in path:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _shown(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
