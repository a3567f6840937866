"""A lake's objects in Azure Data Lake Storage: adlfs for whole objects, and the options that readers need beside it.

Only what one blob guarantees is relied on (an upload is visible whole, `If-None-Match: *` lets one of several racers
create it), so accounts with and without a hierarchical namespace behave the same. The module is imported for `abfss`
addresses only.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LakeError, SettingsError
from alumicatalyst.lake.fault import SignInFailed, first_line, is_missing_container, remedy, without_secrets
from alumicatalyst.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SCOPE = "https://storage.azure.com/.default"
_TOKEN_MARGIN_S = 600
"""A token is renewed this long before it ends; a commit takes seconds."""

WRITE_S = 60.0
"""A write takes no longer than this and the time that its bytes need on the slowest line that can be worked with."""

READ_S = 900.0
"""Nor does a read, whose size is not known before: what ends it sooner is that nothing comes for a while."""

_SLOWEST_BYTES_PER_S = 256 * 1024


class AdlsStore:
    """A folder of a container. Every write is one upload, durable when the service has answered."""

    def __init__(
        self,
        *,
        uri: str,
        container: str,
        account: str,
        path: str,
        credential: str,
        storage_options: Mapping[str, str] | None,
    ) -> None:
        self.root = uri
        self._prefix = f"{container}/{path}".rstrip("/")
        self._account = account
        self._identity: Any = None
        self._token: Any = None
        try:
            from alumicatalyst.lake import adls_client
        except ImportError as error:
            raise SettingsError(
                f"couldn't open the lake: {uri}; install the extra that has adlfs: pip install alumicatalyst[azure]"
            ) from error
        secret = "" if storage_options is not None or credential == "default" else Secret(credential).reveal()
        self._options = dict(storage_options) if storage_options is not None else _options_of(account, secret)
        named = {key.lower().removeprefix("azure_storage_"): value for key, value in self._options.items()}
        login = adls_client.login_of(account, named)
        if login is None:
            self._identity = _default_credential()
            login = adls_client.Identity(self._access)
        url = named.get("endpoint") or f"https://{account}.blob.{_domain_of(uri)}"
        self._filesystem = adls_client.FileSystem(account, url, login)

    def put(self, path: str, data: bytes) -> None:
        """Upload an object; it replaces an existing one when it is complete."""
        self._run(self._filesystem._pipe_file, path, data, overwrite=True)  # noqa: SLF001 what adlfs offers a loop

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Upload with If-None-Match, which the service refuses if the name is taken.

        A connection that is lost behind the request makes the HTTP client send it once more, to find the name taken by
        itself: False says that the object is there, not that somebody else made it.
        """
        try:
            self._run(self._filesystem._pipe_file, path, data, overwrite=False, retry_total=0)  # noqa: SLF001
        except FileExistsError:
            return False
        return True

    def get(self, path: str) -> bytes:
        """Return an object; FileNotFoundError if there is none."""
        data: bytes = self._run(self._filesystem._cat_file, path)  # noqa: SLF001
        return data

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the path and size of every object below a folder, sorted by path."""
        for path, size, _ in self.modified(prefix):
            yield path, size

    def modified(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """Yield path, size and time of the last write of every object below a folder, sorted by path."""
        found = self._run(self._filesystem._find, prefix, detail=True)  # noqa: SLF001
        start = len(self._prefix) + 1
        for name in sorted(found):
            each = found[name]
            yield name[start:], int(each["size"] or 0), each["last_modified"].timestamp()

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone already is no error."""
        try:
            self._run(self._filesystem._rm_file, path)  # noqa: SLF001
        except FileNotFoundError:
            return

    def sync(self, path: str) -> None:
        """The service has made it durable before it answered."""

    def options(self) -> dict[str, str]:
        """Return deltalake's options; with azure-identity they hold a token that is renewed in time."""
        if self._identity is None:
            return self._options
        try:
            token = self._access().token
        except SignInFailed as error:
            raise LakeError(
                f"couldn't open the lake: {self.root}: {first_line(error)}; {remedy(error)} and start again"
            ) from error
        return self._options | {"azure_storage_account_name": self._account, "bearer_token": token}

    def filesystem(self) -> object | None:
        """Return the adlfs file system, for readers that take one."""
        filesystem: object = self._filesystem
        return filesystem

    def _run(self, act: Callable[..., Any], path: str, *data: bytes, **options: Any) -> Any:
        """Let adlfs act on an object, and give up when it takes longer than any line that works would need.

        Raises:
            FileNotFoundError, FileExistsError: As they are.
            LakeError: There is no such container.
            TimeoutError: It took too long, and what became of it is not known.
            Exception: What the storage SDK raised, without what grants access.
        """
        from fsspec.asyn import sync
        from fsspec.exceptions import FSTimeoutError

        seconds = WRITE_S + len(data[0]) / _SLOWEST_BYTES_PER_S if data else READ_S
        try:
            return sync(self._filesystem.loop, act, f"{self._prefix}/{path}", *data, timeout=seconds, **options)
        except FileExistsError:
            raise
        except FSTimeoutError:
            raise TimeoutError(f"no end of a request for {path} within {seconds:.0f} s") from None
        except Exception as error:
            if is_missing_container(error):
                raise LakeError(
                    f"couldn't open the lake: {self.root}: there is no such container; make it, or set lake.uri to one "
                    "that is there"
                ) from None
            harmless = without_secrets(error)
            if harmless is error:
                raise
            raise harmless from None

    def _access(self) -> Any:
        """Return an access token that holds for some minutes yet, or the last one while no other is to be had."""
        left_s = 0.0 if self._token is None else self._token.expires_on - time.time()
        if left_s < _TOKEN_MARGIN_S:
            try:
                self._token = self._identity.get_token(_SCOPE)
            except Exception as error:
                if left_s <= 0:
                    raise SignInFailed(f"couldn't sign in to {self._account}: {first_line(error)}") from error
        return self._token


def _default_credential() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise SettingsError(
            "couldn't use the default credential: azure-identity is missing; pip install alumicatalyst[azure], or set "
            "lake.credential"
        ) from error
    return DefaultAzureCredential()


def _domain_of(uri: str) -> str:
    """Return the cloud's domain, which differs for national clouds."""
    found = re.search(r"@[a-z0-9]+\.(?:dfs|blob)\.([a-z0-9.-]+)", uri)
    return found[1] if found else "core.windows.net"


def _options_of(account: str, secret: str) -> dict[str, str]:
    """Tell an account key, a SAS token and a connection string apart by their form; none is azure-identity."""
    options = {"azure_storage_account_name": account}
    if not secret:
        return options
    if "AccountName=" in secret or "SharedAccessSignature=" in secret:
        return options | _options_of_connection_string(account, secret)
    if "sig=" in secret:
        return options | {"azure_storage_sas_token": secret.lstrip("?")}
    return options | {"azure_storage_account_key": secret}


def _options_of_connection_string(account: str, secret: str) -> dict[str, str]:
    parts = dict(part.split("=", 1) for part in secret.split(";") if "=" in part)
    of = parts.get("AccountName", account)
    if of != account:
        raise SettingsError(
            f"couldn't use the lake's credential: the connection string is of the account {of}, lake.uri of {account}; "
            "set both to the same one"
        )
    options = {}
    if "BlobEndpoint" in parts:
        options["azure_storage_endpoint"] = parts["BlobEndpoint"].rstrip("/")
        if parts["BlobEndpoint"].startswith("http:"):
            options["allow_http"] = "true"
    if "AccountKey" in parts:
        return options | {"azure_storage_account_key": parts["AccountKey"]}
    if "SharedAccessSignature" in parts:
        return options | {"azure_storage_sas_token": parts["SharedAccessSignature"].lstrip("?")}
    raise SettingsError(
        "couldn't use the lake's credential: the connection string has neither AccountKey nor SharedAccessSignature; "
        "copy it from the account's access keys"
    )
