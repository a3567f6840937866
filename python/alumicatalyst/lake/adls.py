"""A lake's objects in Azure Data Lake Storage: adlfs for whole objects, and the options deltalake needs beside it.

Only what one blob guarantees is relied on (an upload is visible whole, `If-None-Match: *` lets one of several racers
create it), so accounts with and without a hierarchical namespace behave the same. The module is imported for `abfss`
addresses only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LakeError, SettingsError
from alumicatalyst.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCOPE = "https://storage.azure.com/.default"
_TOKEN_MARGIN_S = 600
"""A token is renewed this long before it ends; a commit takes seconds."""


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
            import adlfs
        except ImportError as error:
            raise SettingsError(
                f"couldn't open the lake: {uri}; install the extra that has adlfs: pip install alumicatalyst[azure]"
            ) from error
        if storage_options is not None:
            self._options = dict(storage_options)
            login = _login_of(self._options)
        elif credential == "default":
            self._options = {}
            self._identity = _default_credential()
            login = {"anon": False}
        else:
            self._options, login = _from_secret(account, Secret(credential).reveal())
        # Instances and listings are shared and cached by fsspec: other processes write here too, so neither is.
        self._filesystem = adlfs.AzureBlobFileSystem(
            account_name=account, skip_instance_cache=True, use_listings_cache=False, **login
        )

    def put(self, path: str, data: bytes) -> None:
        """Upload an object; it replaces an existing one when it is complete."""
        self._filesystem.pipe_file(f"{self._prefix}/{path}", data, overwrite=True)

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Upload with If-None-Match, which the service refuses if the name is taken."""
        try:
            self._filesystem.pipe_file(f"{self._prefix}/{path}", data, overwrite=False)
        except FileExistsError:
            return False
        return True

    def get(self, path: str) -> bytes:
        """Return an object; FileNotFoundError if there is none."""
        data: bytes = self._filesystem.cat_file(f"{self._prefix}/{path}")
        return data

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the path and size of every object below a folder, sorted by path."""
        for path, size, _ in self.modified(prefix):
            yield path, size

    def modified(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """Yield path, size and time of the last write of every object below a folder, sorted by path."""
        self._filesystem.invalidate_cache()
        found = self._filesystem.find(f"{self._prefix}/{prefix}", detail=True)
        start = len(self._prefix) + 1
        for name in sorted(found):
            each = found[name]
            yield name[start:], int(each["size"] or 0), each["last_modified"].timestamp()

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone already is no error."""
        try:
            self._filesystem.rm_file(f"{self._prefix}/{path}")
        except FileNotFoundError:
            return

    def sync(self, path: str) -> None:
        """The service has made it durable before it answered."""

    def options(self) -> dict[str, str]:
        """Return deltalake's options; with azure-identity they hold a token that is renewed in time."""
        if self._identity is None:
            return self._options
        if self._token is None or self._token.expires_on - _TOKEN_MARGIN_S < time.time():
            try:
                self._token = self._identity.get_token(_SCOPE)
            except Exception as error:
                raise LakeError(
                    f"couldn't sign in to the storage account: {self._account}: {error}; give the process a managed "
                    "identity, set AZURE_CLIENT_ID and its companions, run `az login`, or set lake.credential"
                ) from error
        return {"azure_storage_account_name": self._account, "bearer_token": self._token.token}

    def filesystem(self) -> object | None:
        """Return the adlfs file system, for readers that take one."""
        filesystem: object = self._filesystem
        return filesystem


def _default_credential() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise SettingsError(
            "couldn't use the default credential: azure-identity is missing; pip install alumicatalyst[azure], or set "
            "lake.credential"
        ) from error
    return DefaultAzureCredential()


def _login_of(options: Mapping[str, str]) -> dict[str, Any]:
    """Give adlfs the same login that deltalake's options state, an own endpoint included."""
    names = {key.lower().removeprefix("azure_storage_"): value for key, value in options.items()}
    account, key, endpoint = names.get("account_name", ""), names.get("account_key", ""), names.get("endpoint")
    if endpoint:
        protocol = endpoint.partition(":")[0]
        return {
            "connection_string": f"DefaultEndpointsProtocol={protocol};AccountName={account};AccountKey={key};"
            f"BlobEndpoint={endpoint};"
        }
    if key:
        return {"account_key": key}
    if "sas_token" in names:
        return {"sas_token": names["sas_token"]}
    return {"anon": False}


def _from_secret(account: str, secret: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Tell an account key, a SAS token and a connection string apart by their form."""
    options = {"azure_storage_account_name": account}
    if "AccountName=" in secret or "SharedAccessSignature=" in secret:
        parts = dict(part.split("=", 1) for part in secret.split(";") if "=" in part)
        if "BlobEndpoint" in parts:
            options["azure_storage_endpoint"] = parts["BlobEndpoint"].rstrip("/")
            if parts["BlobEndpoint"].startswith("http:"):
                options["allow_http"] = "true"
        if "AccountKey" in parts:
            options["azure_storage_account_key"] = parts["AccountKey"]
        elif "SharedAccessSignature" in parts:
            options["azure_storage_sas_token"] = parts["SharedAccessSignature"]
        else:
            raise SettingsError(
                "couldn't use the lake's credential: the connection string has neither AccountKey nor "
                "SharedAccessSignature; copy it from the account's access keys"
            )
        return options, {"connection_string": secret}
    if "sig=" in secret:
        token = secret.lstrip("?")
        return options | {"azure_storage_sas_token": token}, {"sas_token": token}
    return options | {"azure_storage_account_key": secret}, {"account_key": secret}
