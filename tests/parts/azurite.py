"""Azurite, a stand-in for the blob service of an Azure storage account, as a pytest fixture and without pytest."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require

ACCOUNT = "devstoreaccount1"
# The well-known key of every emulator; it opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
MAIN = Path(__file__).parent / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@dataclass(frozen=True)
class Azurite:
    """A running stand-in.

    Attributes:
        endpoint: Address of the account.
    """

    endpoint: str

    @property
    def connection_string(self) -> str:
        protocol = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY}"
        return f"{protocol};BlobEndpoint={self.endpoint};"

    @property
    def storage_options(self) -> dict[str, str]:
        return {
            "azure_storage_account_name": ACCOUNT,
            "azure_storage_account_key": KEY,
            "azure_storage_endpoint": self.endpoint,
            "allow_http": "true",
        }

    def container(self, name: str) -> str:
        """Make a container and return its address."""
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(name)
        return f"abfss://{name}@{ACCOUNT}.dfs.core.windows.net"


@pytest.fixture(scope="session")
def azurite(require: Require) -> Iterator[Azurite]:
    """Start Azurite for a session of tests."""
    require(shutil.which("node"), "there is no Node; install Node 20 or later")
    require(MAIN.is_file(), "Azurite is not installed; run `npm ci --prefix tests/parts`, which `make` does")
    with running() as started:
        yield started


@contextmanager
def running() -> Iterator[Azurite]:
    """Start Azurite; it keeps everything in memory.

    It never closes some of the files that it opens, so whoever writes for hours starts a fresh one now and then.
    """
    with listening() as address:
        yield Azurite(f"{address}/{ACCOUNT}")


@contextmanager
def listening(*flags: str | Path) -> Iterator[str]:
    """Start it on a port of its own choice, for one that is free now may be taken by then; yield its address."""
    usual = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    process = subprocess.Popen(
        ["node", MAIN, *usual, *flags, "--blobHost", "127.0.0.1", "--blobPort", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield _address(process)
    finally:
        # There is nothing to put in order, and requests that are not answered yet may be waited for.
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    said, until = b"", time.monotonic() + 100
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 1.0)[0]:
            more = os.read(process.stdout.fileno(), 1 << 16)
            said += more
            found = re.search(rb"successfully listens on (\S+)\n", said)
            if found is not None:
                return found[1].decode()
            if not more:
                raise RuntimeError(f"Azurite ended with {process.wait()}: {said.decode(errors='replace')[-2_000:]}")
    raise RuntimeError(f"Azurite did not listen in time: {said.decode(errors='replace')[-2_000:]}")
