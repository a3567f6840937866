"""A secret in the settings is a reference to where it is kept, never the secret itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic_core import CoreSchema, core_schema

from alumicatalyst.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

_BYTES_MAX = 65_536


class Secret(str):
    """A reference to a secret, `env:NAME` or `file:PATH`: the text is safe to show, and `reveal` reads the secret."""

    __slots__ = ()

    def __new__(cls, reference: str) -> Self:
        """Accept a reference and refuse anything else, without repeating it: it may be the secret itself."""
        scheme, colon, rest = reference.partition(":")
        if not colon or scheme not in {"env", "file"} or not rest.strip():
            raise ValueError(
                "a secret is given by reference, never itself: env:NAME takes it from the environment, file:PATH "
                "from a file (the value is not repeated here)"
            )
        return super().__new__(cls, reference)

    def reveal(self) -> str:
        """Return the secret itself, less surrounding white space.

        Raises:
            SettingsError: The variable or file is missing, empty or too large.
        """
        scheme, _, name = self.partition(":")
        if scheme == "env":
            value = os.environ.get(name, "").strip()
            if not value:
                raise SettingsError(f"couldn't read secret {self}: the variable is not set or empty; export {name}=...")
            return value
        try:
            with Path(name).open("rb") as file:
                content = file.read(_BYTES_MAX + 1)
            value = content.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"couldn't read secret {self}: {reason}; put the secret into that file") from None
        if not value or len(content) > _BYTES_MAX:
            fault = "the file is larger than 64 KiB" if value else "the file is empty"
            raise SettingsError(f"couldn't read secret {self}: {fault}; put the secret alone into that file")
        return value

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic build one from a string."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
