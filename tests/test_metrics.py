"""Metric names are a contract with dashboards; their endpoint is local and says when its port is taken."""

from __future__ import annotations

import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from alumicatalyst import metrics
from alumicatalyst.errors import SettingsError
from tests.parts.ports import held_port

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = {
    "alumicatalyst_readings_total": ("partition", "outcome"),
    "alumicatalyst_rejected_total": ("partition", "reason"),
    "alumicatalyst_envelopes_total": ("partition",),
    "alumicatalyst_redelivered_total": ("partition",),
    "alumicatalyst_source_lag_envelopes": ("partition",),
    "alumicatalyst_source_lag_seconds": ("partition",),
    "alumicatalyst_source_queue_batches": ("partition",),
    "alumicatalyst_batch_envelopes": (),
    "alumicatalyst_batch_readings": (),
    "alumicatalyst_stage_seconds": ("stage",),
    "alumicatalyst_watermark_delay_seconds": ("partition",),
    "alumicatalyst_lake_commits_total": ("table",),
    "alumicatalyst_lake_away_seconds": (),
    "alumicatalyst_lake_conflicts_total": ("table",),
    "alumicatalyst_lake_rows_total": ("table",),
    "alumicatalyst_lake_bytes_total": ("table",),
    "alumicatalyst_alerts_rows_total": ("kind",),
    "alumicatalyst_alerts_refilled_rows_total": ("kind",),
    "alumicatalyst_alerts_dropped_rows_total": ("kind",),
    "alumicatalyst_alerts_queue_rows": ("kind",),
    "alumicatalyst_alerts_errors_total": ("reason",),
    "alumicatalyst_alerts_last_success_time_seconds": (),
    "alumicatalyst_alerts_mark": ("partition", "kind"),
    "alumicatalyst_alerts_post_seconds": ("kind",),
    "alumicatalyst_in_flight_batches": (),
}


@pytest.fixture
def port() -> Iterator[int]:
    with held_port() as port:
        yield port


@pytest.mark.parametrize(("name", "labels"), NAMES.items())
def test_a_metric_has_its_name_its_labels_and_its_object(name: str, labels: tuple[str, ...]) -> None:
    metric = getattr(metrics, name.removeprefix("alumicatalyst_").removesuffix("_total").upper())
    described = next(iter(metric.describe()))
    assert described.name == name.removesuffix("_total")
    assert metric._labelnames == labels
    assert described.documentation.endswith(".")


def test_there_are_no_other_metrics() -> None:
    ours = {name.removesuffix("_total") for name in NAMES}
    assert {family.name for family in REGISTRY.collect() if family.name.startswith("alumicatalyst_")} == ours


def test_metrics_are_served_until_stopped(port: int) -> None:
    stop = metrics.serve(port)
    try:
        metrics.LAKE_COMMITS.labels("test").inc()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        assert 'alumicatalyst_lake_commits_total{table="test"} 1.0' in text
    finally:
        stop()
        metrics.LAKE_COMMITS.remove("test")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)


def test_a_port_in_use_is_a_clear_error_and_zero_serves_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match=r"couldn't serve metrics on 127\.0\.0\.1:\d+.*runner\.metrics_port"):
            metrics.serve(taken.getsockname()[1])
    metrics.serve(0)()
