"""Every way to sign in to a storage account, for what we write and for every reader; and none of them is ever told."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

import polars as pl
import pytest
from deltalake import DeltaTable

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.query import select
from tests.lake import plant
from tests.parts.azurite import ACCOUNT, KEY, MAIN, Azurite, azurite
from tests.parts.faulty import Faulty, once
from tests.parts.identity import azurite_with_tokens, certificate, token_service

if TYPE_CHECKING:
    from tests.conftest import Require

__all__ = ["azurite"]

ROOT = Path(__file__).parents[2]
UNTIL = 12


def container_sas(name: str, *, hours: float = 1) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    rights = ContainerSasPermissions(read=True, write=True, list=True, delete=True, create=True)
    until = datetime.now(UTC) + timedelta(hours=hours)
    return generate_container_sas(ACCOUNT, name, account_key=KEY, permission=rights, expiry=until)


def account_sas() -> str:
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    rights = AccountSasPermissions(read=True, write=True, list=True, delete=True, create=True)
    until = datetime.now(UTC) + timedelta(hours=1)
    return generate_account_sas(ACCOUNT, KEY, ResourceTypes(container=True, object=True), rights, until)


def secrets_of(kind: str, azurite: Azurite, name: str) -> str:
    """The secret of a lake in Azurite, behind an endpoint of its own: a connection string of one kind or another."""
    if kind == "key":
        return azurite.connection_string
    sas = account_sas() if kind == "account SAS" else container_sas(name)
    return f"BlobEndpoint={azurite.endpoint};SharedAccessSignature={sas};AccountName={ACCOUNT};"


def write_and_read_everywhere(lake: Lake) -> None:
    """Our own writes, then every reader that a lake's tables are handed to."""
    plant.run(lake, UNTIL, flush_every=6, state_every=1)
    plant.assert_exact(lake, UNTIL)
    rows = len(plant.undisturbed(UNTIL)["readings"])
    (batch,) = select(lake, "SELECT count(*) AS rows FROM readings")
    assert batch.to_pylist() == [{"rows": rows}]
    uri, options = f"{lake.store.root}/readings", lake.store.options()
    assert pl.scan_delta(uri, storage_options=options).select(pl.len()).collect().item() == rows
    assert DeltaTable(uri, storage_options=options).count() == rows


@pytest.mark.parametrize("kind", ["key", "account SAS", "container SAS"])
def test_a_connection_string_serves_writers_and_readers(azurite: Azurite, tmp_path: Path, kind: str) -> None:
    name = f"cred-{kind.replace(' ', '-').lower()}"
    uri = azurite.container(name) + "/lake"
    (tmp_path / "secret").write_text(secrets_of(kind, azurite, name))
    write_and_read_everywhere(Lake.open(uri, credential=f"file:{tmp_path / 'secret'}"))


@pytest.mark.parametrize("option", ["account_key", "sas_token"])
def test_a_key_and_a_token_serve_writers_and_readers(azurite: Azurite, option: str) -> None:
    name = f"cred-{option.replace('_', '-')}"
    uri = azurite.container(name) + "/lake"
    options = azurite.storage_options
    if option == "sas_token":
        del options["azure_storage_account_key"]
        options["azure_storage_sas_token"] = container_sas(name)
    write_and_read_everywhere(Lake.open(uri, storage_options=options))


@pytest.mark.parametrize("secret", ["another key", "an expired SAS", "a SAS of another container"])
def test_a_login_that_is_refused_ends_at_once_and_says_so(azurite: Azurite, tmp_path: Path, secret: str) -> None:
    uri = azurite.container(f"refused-{len(secret)}") + "/lake"
    wrong = {
        "another key": azurite.connection_string.replace(KEY, base64.b64encode(b"wrong").decode()),
        "an expired SAS": f"BlobEndpoint={azurite.endpoint};SharedAccessSignature={container_sas('x', hours=-1)};",
        "a SAS of another container": f"BlobEndpoint={azurite.endpoint};SharedAccessSignature={container_sas('x')};",
    }[secret]
    (tmp_path / "secret").write_text(wrong)
    with pytest.raises(LakeError, match=r"check lake\.credential"):
        Lake.open(uri, credential=f"file:{tmp_path / 'secret'}")


# --- azure-identity, against a token service of a managed identity and an Azurite that wants tokens


IDENTITY = """
import sys
from alumicatalyst.lake import Lake
from tests.lake import plant, test_credentials
from alumicatalyst import _core
_core.state_info = plant.state_info
endpoint, uri = sys.argv[1:]
options = {"azure_storage_account_name": test_credentials.ACCOUNT, "azure_storage_endpoint": endpoint}
lake = Lake.open(uri, storage_options=options)
test_credentials.write_and_read_everywhere(lake)
print("read")
"""


def test_a_managed_identity_serves_writers_and_readers(require: Require, tmp_path: Path) -> None:
    require(shutil.which("node"), "there is no Node; install Node 20 or later")
    require(MAIN.is_file(), "Azurite is not installed; run `npm ci --prefix tests/parts`, which `make` does")
    from azure.storage.blob import BlobServiceClient

    cert, key = certificate(tmp_path)
    asked: list[dict[str, str]] = []
    with azurite_with_tokens(cert, key) as endpoint, token_service(asked) as tokens:
        with BlobServiceClient(
            endpoint, {"account_name": ACCOUNT, "account_key": KEY}, connection_verify=str(cert)
        ) as c:
            c.create_container("identity")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
        environment |= {"IDENTITY_ENDPOINT": tokens, "IDENTITY_HEADER": "proof", "AZURE_CLIENT_ID": "client-1"}
        environment |= {"SSL_CERT_FILE": str(cert)}
        ran = subprocess.run(
            [sys.executable, "-c", IDENTITY, endpoint, f"abfss://identity@{ACCOUNT}.dfs.core.windows.net/lake"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert ran.stdout == "read\n", ran.stderr[-4_000:]
    assert {each["client_id"] for each in asked} == {"client-1"}
    assert {each["header"] for each in asked} == {"proof"}
    assert {each["resource"] for each in asked} == {"https://storage.azure.com"}
    assert len(asked) == 1, "one token serves all"


# --- what is told


TALK = """
import logging, sys, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from alumicatalyst import log
from alumicatalyst.lake import Lake
from alumicatalyst.lake.store import open_store
from tests.lake import plant
from alumicatalyst import _core
_core.state_info = plant.state_info
if sys.argv[2] == "ours":
    log.configure("json", logging.DEBUG)
for each in ("alumicatalyst", "azure", "adlfs", "fsspec", "urllib3", "aiohttp", "asyncio", "msal"):
    logging.getLogger(each).setLevel(logging.DEBUG)
try:
    lake = Lake.open(sys.argv[1], credential="env:LAKE_SECRET", patience_s=1)
    print("open", file=sys.stderr)
    plant.run(lake, 11, flush_every=6, state_every=1)
    print("run", file=sys.stderr)
    print(plant.stored(lake)["readings"][0], lake.store, vars(lake.store).keys(), file=sys.stderr)
except Exception as error:
    traceback.print_exc()
    logging.getLogger("alumicatalyst.test").exception("it failed")
    raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("key", ""), ("key", "garbage"), ("container SAS", ""), ("container SAS", "garbage"), ("container SAS", "403")],
)
def test_no_secret_is_ever_told(azurite: Azurite, tmp_path: Path, kind: str, fault: str) -> None:
    name = f"told-{kind.replace(' ', '-').lower()}-{fault or 'nothing'}"
    uri = azurite.container(name) + "/lake"
    with Faulty(azurite.endpoint) as proxy:
        secret = secrets_of(kind, Azurite(proxy.endpoint), name)
        if fault:
            # Every commit of a flush fails, with all that is said of it.
            proxy.rule = once("PUT", r"/readings/_delta_log/\d{19}[2-9]\.json", fault, times=1_000)
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", TALK, uri, "" if fault == "403" else "ours"],
            cwd=ROOT,
            env=os.environ | {"LAKE_SECRET": secret, "RUST_LOG": "trace", "RUST_BACKTRACE": "1"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    said = ran.stdout + ran.stderr
    assert ran.returncode == bool(fault), said[-3_000:]
    assert "open" in said
    assert ("couldn't commit rows to readings" in said) == bool(fault)
    assert "DEBUG" in said or '"debug"' in said
    sas = secret.partition("SharedAccessSignature=")[2].partition(";")[0]
    hidden = [KEY] if kind == "key" else parse_qs(sas)["sig"]
    for each in hidden:
        for form in (each, quote(each, safe=""), quote(each, safe="/"), base64.b64encode(each.encode()).decode()):
            assert form not in said, [line for line in said.splitlines() if form in line][:3]
