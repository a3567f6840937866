"""Which of a source's partitions a process reads: all of them, some by their ids, or its share as one of several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from alumicatalyst.errors import SettingsError, SourceError
from alumicatalyst.sources import split_partition_id

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Share:
    """A process's part of the partitions; the same for every kind of source.

    Attributes:
        ids: The partitions' own ids; None: not chosen by id.
        ordinal: The number of this process among equal ones, from 0.
        replicas: How many there are.

    Example:
        >>> Share.parse("1/2").of(["telemetry/1/0", "telemetry/1/1", "telemetry/1/2"])
        ['telemetry/1/1']
    """

    ids: tuple[str, ...] | None = None
    ordinal: int = 0
    replicas: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `source.partitions`.

        Args:
            text: "all", ids as in "0,2", or "ordinal/replicas".

        Raises:
            SettingsError: It is none of these.
        """
        if text == "all":
            return cls()
        share = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if share and int(share[1]) < int(share[2]):
            return cls(None, int(share[1]), int(share[2]))
        if re.fullmatch(r"[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)*", text):
            return cls(tuple(text.split(",")))
        raise SettingsError(
            f"couldn't use source.partitions: {text!r}; allowed are 'all', ids such as '0,2', and 'ordinal/replicas'"
        )

    def of(self, partitions: Sequence[str]) -> list[str]:
        """Return those of a source's partitions that are this process's, by their ids and in the source's order.

        A partition belongs to the process `id % replicas`, so that it stays where it is when a source gets more of
        them. Ids that are no numbers are counted instead.

        Raises:
            SourceError: A partition that was asked for by its id is not there.
        """
        # A lake that is replayed may hold several sources, whose ids are alike: those of one id go to one process.
        numbers = {each: split_partition_id(each)[2] for each in partitions}
        ids = sorted(set(numbers.values()), key=lambda each: (len(each), each))
        if self.ids is None:
            ordinals = {each: int(each) if each.isdecimal() else at for at, each in enumerate(ids)}
            return [each for each in partitions if ordinals[numbers[each]] % self.replicas == self.ordinal]
        missing = [each for each in self.ids if each not in ids]
        if missing:
            raise SourceError(
                f"couldn't find partitions of the source: {', '.join(missing)}; it has {', '.join(ids)}: correct "
                "source.partitions"
            )
        return [each for each in partitions if numbers[each] in self.ids]
