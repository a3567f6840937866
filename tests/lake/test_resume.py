"""Append and resume on a local directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lake import plant

if TYPE_CHECKING:
    from alumicatalyst.lake import Lake


def test_i5_a_process_goes_on_where_another_stopped(lake: Lake) -> None:
    plant.run(lake, 29)
    plant.run(lake, 64)
    plant.assert_exact(lake, 64)
