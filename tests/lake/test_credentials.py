"""Every way to sign in to a storage account, for what we write and for every reader; and none of them is ever told."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import polars as pl
import pytest
from deltalake import DeltaTable

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.query import select
from tests.lake import plant
from tests.parts.azurite import ACCOUNT, KEY, MAIN, Azurite, azurite
from tests.parts.faulty import Faulty, once

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def token_service(asked: list[dict[str, str]]) -> Iterator[str]:
    """The token service of a managed identity, as App Service, Container Apps and Functions offer it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            asked.append(query | {"header": self.headers.get("X-IDENTITY-HEADER", "")})
            until = int(time.time()) + 3_600
            body = json.dumps(
                {
                    "access_token": token(until),
                    "expires_on": str(until),
                    "resource": query["resource"],
                    "token_type": "B",
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def token(until: int) -> str:
    """A token in the form that Azurite looks at; it checks no signature."""
    claims = {
        "aud": "https://storage.azure.com",
        "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
        "iat": until - 7_200,
        "nbf": until - 7_200,
        "exp": until,
        "ver": "1.0",
    }
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    text = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts]
    return ".".join([*text, "c2VjcmV0LXNpZ25hdHVyZQ"])


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@contextmanager
def azurite_with_tokens(cert: Path, key: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent", "--oauth", "basic"]
    process = subprocess.Popen(
        ["node", str(MAIN), *flags, "--cert", cert, "--key", key, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"https://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        process.terminate()
        process.wait(30)


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
    hidden = [KEY] if kind == "key" else [parse_qs(secret.partition("SharedAccessSignature=")[2])["sig"][0].rstrip(";")]
    for each in hidden:
        for form in (each, quote(each, safe=""), quote(each, safe="/"), base64.b64encode(each.encode()).decode()):
            assert form not in said, [line for line in said.splitlines() if form in line][:3]
