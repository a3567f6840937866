"""The paths of the API: what somebody asks, in one file for each thing that is asked about."""

from fastapi import APIRouter

from api.routes import alarms, health, ingest, ledger, series, stream, windows

ROUTERS: tuple[APIRouter, ...] = (
    ingest.router,
    alarms.router,
    series.router,
    windows.router,
    stream.router,
    ledger.router,
    health.router,
)
