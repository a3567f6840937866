"""The object store: whole objects, one winner among racers, and nothing of Azure for a local lake."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from alumicatalyst.errors import LakeError, SettingsError
from alumicatalyst.lake.adls import AdlsStore
from alumicatalyst.lake.store import LocalStore, open_store

URI = "abfss://plant@account.dfs.core.windows.net/lake/a"


def test_an_object_is_put_read_listed_replaced_and_deleted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("b/c/one", b"1")
    store.put("b/two", b"22")
    store.put("b/two", b"222")
    assert store.get("b/two") == b"222"
    assert list(store.list("b")) == [("b/c/one", 1), ("b/two", 3)]
    assert list(store.list("nothing")) == []
    store.delete("b/two")
    store.delete("b/two")
    with pytest.raises(FileNotFoundError):
        store.get("b/two")


def test_exactly_one_of_many_racers_creates_an_object(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path) for _ in range(8)]
    for round_ in range(20):
        with ThreadPoolExecutor(8) as pool:
            made = list(
                pool.map(lambda at, name=f"a/{round_}": stores[at].create_if_absent(name, bytes([at])), range(8))
            )
        assert sum(made) == 1
        assert stores[0].get(f"a/{round_}") == bytes([made.index(True)])
    assert len(list(stores[0].list("a"))) == 20


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("a/old", b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.put("a/old", b"new")
    with pytest.raises(OSError, match="No space left"):
        store.create_if_absent("a/new", b"new")
    monkeypatch.undo()
    assert [(path, store.get(path)) for path, _ in store.list("a")] == [("a/old", b"old")]


def test_an_object_and_its_name_are_synced_before_the_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watch(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name.split(".")[0])
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    store = LocalStore(tmp_path / "lake")
    (tmp_path / "lake").mkdir()
    store.put("b/one", b"1")
    store.create_if_absent("b/two", b"2")
    store.sync("b/two")
    store.sync("b/none")
    # Once for every directory, whoever has made it: from the top down to the one that is written to.
    assert synced == [tmp_path.name, "lake", "one", "b", "two", "b", "two", "b"]


@pytest.mark.parametrize("uri", ["file:{}/x", "file://{}/x", "{}/x"])
def test_a_local_lake_is_addressed_by_file_or_path(tmp_path: Path, uri: str) -> None:
    assert open_store(uri.format(tmp_path)).root == str(tmp_path / "x")
    assert (tmp_path / "x").is_dir()


def test_addresses_that_are_no_lake_are_refused(tmp_path: Path) -> None:
    for uri in ("s3://bucket/x", "abfss://only-a-container/x", "https://account.blob.core.windows.net/x"):
        with pytest.raises(SettingsError, match="couldn't open the lake"):
            open_store(uri)
    with pytest.raises(LakeError, match="there is no such directory"):
        open_store(str(tmp_path / "none"), create=False)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LakeError, match="couldn't make the lake's directory"):
        open_store(str(tmp_path / "file" / "x"))


def test_a_local_lake_imports_nothing_of_azure(tmp_path: Path) -> None:
    code = (
        "import sys; from alumicatalyst.lake.store import open_store;"
        "import alumicatalyst.lake, alumicatalyst.sinks.lake;"
        f"open_store({str(tmp_path)!r}).put('a', b'1');"
        "print([name for name in sys.modules if name.split('.')[0] in ('adlfs', 'azure', 'fsspec', 'aiohttp')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    ("secret", "options"),
    [
        ("a2V5", {"azure_storage_account_key": "a2V5"}),
        ("?sv=1&sig=x%3D", {"azure_storage_sas_token": "sv=1&sig=x%3D"}),
        (
            "DefaultEndpointsProtocol=https;AccountName=account;AccountKey=a2V5==;EndpointSuffix=core.windows.net",
            {"azure_storage_account_key": "a2V5=="},
        ),
        (
            "BlobEndpoint=http://127.0.0.1:1/account/;SharedAccessSignature=sv=1&sig=x;AccountName=account",
            {
                "azure_storage_sas_token": "sv=1&sig=x",
                "azure_storage_endpoint": "http://127.0.0.1:1/account",
                "allow_http": "true",
            },
        ),
    ],
)
def test_a_credential_is_a_key_a_token_or_a_connection_string(
    monkeypatch: pytest.MonkeyPatch, secret: str, options: dict[str, str]
) -> None:
    monkeypatch.setenv("LAKE_SECRET", secret)
    # What adlfs would take from the environment is not what the settings say.
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=other;AccountKey=b3RoZXI=")
    store = open_store(URI, credential="env:LAKE_SECRET")
    assert store.options() == {"azure_storage_account_name": "account"} | options
    client: Any = getattr(store.filesystem(), "service_client")  # noqa: B009 the protocol promises an object
    assert client.account_name == "account"
    assert client.url.startswith(options.get("azure_storage_endpoint", "https://account.blob.core.windows.net"))
    assert "sig" not in client.url


def test_a_credential_itself_or_a_half_or_a_foreign_connection_string_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAKE_SECRET", "AccountName=account;EndpointSuffix=core.windows.net")
    with pytest.raises(SettingsError, match="neither AccountKey nor SharedAccessSignature"):
        open_store(URI, credential="env:LAKE_SECRET")
    monkeypatch.setenv("LAKE_SECRET", "AccountName=other;AccountKey=a2V5")
    with pytest.raises(SettingsError, match="the connection string is of the account other, lake"):
        open_store(URI, credential="env:LAKE_SECRET")
    monkeypatch.delenv("LAKE_SECRET")
    with pytest.raises(SettingsError, match="LAKE_SECRET"):
        open_store(URI, credential="env:LAKE_SECRET")


@pytest.mark.parametrize("domain", ["core.windows.net", "core.usgovcloudapi.net", "fabric.microsoft.com"])
def test_the_service_is_looked_for_in_the_cloud_of_the_address(monkeypatch: pytest.MonkeyPatch, domain: str) -> None:
    monkeypatch.setenv("LAKE_SECRET", "a2V5")
    store = open_store(f"abfss://plant@account.dfs.{domain}/lake", credential="env:LAKE_SECRET")
    client: Any = getattr(store.filesystem(), "service_client")  # noqa: B009 the protocol promises an object
    assert client.url == f"https://account.blob.{domain}/"


def test_a_token_of_the_default_credential_is_renewed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr("alumicatalyst.lake.adls.time.time", lambda: now[0])

    class Token:
        def __init__(self, number: int) -> None:
            self.token, self.expires_on = f"token-{number}", now[0] + 3_600

    class Identity:
        count = 0

        def get_token(self, scope: str) -> Token:
            assert scope == "https://storage.azure.com/.default"
            self.count += 1
            if self.count >= 3:
                raise RuntimeError("no identity")
            return Token(self.count)

    monkeypatch.setattr("alumicatalyst.lake.adls._default_credential", Identity)
    store = open_store(URI)
    assert store.options() == {"azure_storage_account_name": "account", "bearer_token": "token-1"}
    now[0] += 2_900
    assert store.options()["bearer_token"] == "token-1"
    now[0] += 200
    assert store.options()["bearer_token"] == "token-2"
    now[0] += 3_500
    assert store.options()["bearer_token"] == "token-2", "it holds yet, and no other is to be had"
    now[0] += 200
    with pytest.raises(LakeError, match="couldn't sign in to account: no identity; give the process a managed"):
        store.options()


def test_without_adlfs_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.delitem(sys.modules, "alumicatalyst.lake.adls_client", raising=False)
    monkeypatch.delattr("alumicatalyst.lake.adls_client", raising=False)
    with pytest.raises(SettingsError, match=r"pip install alumicatalyst\[azure\]"):
        AdlsStore(uri=URI, container="plant", account="account", path="", credential="default", storage_options=None)
