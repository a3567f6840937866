"""adlfs with bounds: every request ends in bounded time, few are repeated, and how it signs in is decided in one place.

By itself adlfs has the storage SDK repeat a request for more than a minute, lets as many connections as fsspec likes
work on one object, and takes credentials from the environment that nobody has set for this lake.
"""

from __future__ import annotations

import asyncio
import io
import random
from typing import TYPE_CHECKING, Any

import adlfs
from azure.core.credentials import AzureSasCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient, LinearRetry
from typing_extensions import override

from alumicatalyst.lake.fault import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECT_S = 10
"""A connection is there within this time, or the request has failed."""

READ_S = 30
"""The service sends something within this time once it has the request."""

RETRIES = 2
"""Times that the SDK repeats what may be repeated without anyone asking what became of it: reads, and writes of one
and the same object. Whatever takes longer is for the caller, who can tell an operator of it."""

RETRY_AFTER_MAX_S = 5.0
"""The service's own wish is followed up to here within a request."""

CONCURRENCY_MAX = 4
"""Connections that work on one object; a single one often has 60 MB/s."""

BLOCK_BYTES = 8 * 1024 * 1024
SINGLE_PUT_BYTES_MAX = 32 * 1024 * 1024
"""Above this an object goes in blocks, which become visible together with the last request."""

_PAUSE_S = (0.05, 0.4)
_PIECE_BYTES_MAX = 1024 * 1024
"""What aiohttp sends in one piece without complaint."""


class _Retry(LinearRetry):
    """A few quick repetitions, later where the service asks for it."""

    @override
    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        response = settings["history"][-1].http_response if settings["history"] else None
        wished = retry_after_s(response) or 0.0
        return max(min(wished, RETRY_AFTER_MAX_S), random.uniform(*_PAUSE_S))  # noqa: S311 jitter


class _Transport(AioHttpTransport):  # type: ignore[misc] # It has no types.
    """Hands large bodies over as files: sent as one piece they would keep the event loop from everything else."""

    @override
    async def send(self, request: Any, **config: Any) -> Any:
        body = request.data
        if not isinstance(body, bytes) or len(body) <= _PIECE_BYTES_MAX:
            return await super().send(request, **config)
        # Bytes again afterwards: a repetition takes them from the start.
        request.data = io.BytesIO(body)
        try:
            return await super().send(request, **config)
        finally:
            request.data = body


class Identity:
    """Lets the event loop ask a credential that blocks, so that one credential serves adlfs and every reader."""

    def __init__(self, get_token: Callable[[], Any]) -> None:
        self._get_token = get_token

    async def get_token(self, *_scopes: str, **_options: Any) -> Any:
        """Return an access token; the scope is always that of storage."""
        return await asyncio.to_thread(self._get_token)

    async def close(self) -> None:
        """Nothing is open here."""


def _client_options() -> dict[str, Any]:
    """Return what bounds a client of the storage SDK."""
    return {
        "transport": _Transport(connection_timeout=CONNECT_S, read_timeout=READ_S),
        # Not after a time-out: what has not answered for so long would only be waited for again.
        "retry_policy": _Retry(retry_total=RETRIES, retry_read=0),
        "max_single_put_size": SINGLE_PUT_BYTES_MAX,
        "max_block_size": BLOCK_BYTES,
        "max_single_get_size": SINGLE_PUT_BYTES_MAX,
        "max_chunk_get_size": BLOCK_BYTES,
        "user_agent": "alumicatalyst",
    }


class FileSystem(adlfs.AzureBlobFileSystem):  # type: ignore[misc] # It has no types.
    """An adlfs file system whose client is made here.

    Args:
        account: Name of the storage account.
        url: Address of its blob service.
        credential: What the storage SDK takes for one.
    """

    # Instances and listings are shared and cached by fsspec: other processes write here too, so neither is.
    cachable = False

    def __init__(self, account: str, url: str, credential: Any) -> None:
        self._url, self._login = url, credential
        # "anon" keeps adlfs from looking for credentials of its own.
        super().__init__(
            account_name=account,
            anon=True,
            assume_container_exists=True,
            max_concurrency=CONCURRENCY_MAX,
            use_listings_cache=False,
        )

    @override
    def do_connect(self) -> None:
        """Make the client of this file system, as the base class asks."""
        self.service_client = BlobServiceClient(self._url, credential=self._login, **_client_options())


def login_of(account: str, options: Mapping[str, str]) -> Any:
    """Return what options say of a key or a SAS token as the storage SDK takes it, None if they say nothing."""
    if "account_key" in options:
        return {"account_name": account, "account_key": options["account_key"]}
    if "sas_token" in options:
        return AzureSasCredential(options["sas_token"])
    return None
