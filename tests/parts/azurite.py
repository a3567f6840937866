"""Azurite, a stand-in for the blob service of an Azure storage account, as a pytest fixture and without pytest."""

from __future__ import annotations

import shutil
import socket
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
    """Start Azurite on a free port; it keeps everything in memory.

    It never closes some of the files that it opens, so whoever writes for hours starts a fresh one now and then.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    process = subprocess.Popen(
        ["node", str(MAIN), *flags, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for(process, port)
        yield Azurite(f"http://127.0.0.1:{port}/{ACCOUNT}")
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_for(process: subprocess.Popen[str], port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            _, said = process.communicate()
            raise RuntimeError(f"Azurite ended with {process.returncode}: {said[-2_000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("Azurite did not listen within a minute")
