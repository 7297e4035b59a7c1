"""What Azure's storage promises besides: against Azurite, and where that has nothing to say against stand-ins."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.storage.blob import (
    BlobClient,
    BlobLeaseClient,
    BlobServiceClient,
    ContainerClient,
    CorsRule,
    UserDelegationKey,
)

from nursecare_chat.errors import ConfigurationError, StorageUnavailable
from nursecare_chat.storage import azure, azure_account, names
from nursecare_chat.storage.azure import AzureStorage
from nursecare_chat.storage.azure_account import API_VERSION, KEY_LIFE, RENEW_PAUSE, Account, Service, account_of

from ..support.azurite import ACCOUNT, KEY, Accounts, Server
from ..support.photos import issue, post
from ..support.pictures import SVG, picture
from ..support.servers import free_port

PREFIX = names.prefix(12)
JPEG = picture()
CONTAINER = "photos"
LOCAL = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=http://127.0.0.1:"


@pytest.fixture
def storage(azure_accounts: Accounts) -> AzureStorage:
    settings = azure_accounts.settings()
    account = account_of(settings["CHAT_AZURE_CONNECTION_STRING"], "", 900)
    storage = AzureStorage(Service(account), settings["CHAT_STORAGE_URL"].removeprefix("azure://"))
    storage.create()
    return storage


@pytest.fixture
def name() -> str:
    return names.new_name(12, "image/jpeg")


def put(storage: AzureStorage, name: str, data: bytes = JPEG) -> int:
    signed = storage.sign_put(name, "image/jpeg", len(data), 60)
    return httpx.put(signed.url, content=data, headers=signed.headers).status_code


def everything(storage: AzureStorage) -> list[Any]:
    """As the service itself lists it."""
    return list(storage._container.list_blobs(include=["snapshots", "uncommittedblobs"]))


# -- signed URLs -----------------------------------------------------------------------------------------------------


def test_what_an_upload_url_allows(storage: AzureStorage, name: str) -> None:
    """C24: to create its one blob; no overwrite, lease, snapshot of another, metadata, reading, listing or deletion."""
    signed = storage.sign_put(name, "image/jpeg", len(JPEG), 60)
    assert put(storage, name) == 201
    assert "sp=c&" in signed.url
    assert "st=" not in signed.url.partition("?")[2].replace("est=", "")
    other = signed.url.replace(name, names.new_name(12, "image/jpeg"))
    container = signed.url.replace(f"/{name}", "")
    again = {**signed.headers, "x-ms-version": API_VERSION}
    refused = [
        ("PUT", f"{signed.url}&comp=block&blockid=MQ==", again),
        ("PUT", signed.url, again),
        ("PUT", other, again),
        ("GET", signed.url, {}),
        ("DELETE", signed.url, {}),
        ("PUT", f"{signed.url}&comp=lease", {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1"}),
        ("PUT", f"{signed.url}&comp=metadata", {"x-ms-meta-a": "b"}),
        ("GET", f"{container}&restype=container&comp=list", {}),
        ("PUT", signed.url.replace("sp=c", "sp=cw"), again),
        ("PUT", signed.url.replace("sig=", "sig=A"), again),
    ]
    for method, url, headers in refused:
        content = JPEG if method == "PUT" else None
        assert httpx.request(method, url, headers=headers, content=content).status_code == 403, (method, headers)
    assert storage.read(name, 10**6) == JPEG


def test_a_reading_url_forces_what_browsers_make_of_it(storage: AzureStorage, name: str) -> None:
    """C24: whatever the uploader called it, it is an image of its name's type, and no cache keeps it."""
    signed = storage.sign_put(name, "image/jpeg", 100, 60)
    httpx.put(signed.url, content=SVG, headers={**signed.headers, "Content-Type": "text/html"})
    answer = httpx.get(storage.sign_get(name, 60))
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"] == "inline"
    assert answer.headers["Cache-Control"] == "no-store"
    assert httpx.put(storage.sign_get(name, 60), content=b"x", headers=signed.headers).status_code == 403


def test_a_used_name_stays_taken(storage: AzureStorage, name: str) -> None:
    """C24, C41: a deletion leaves nothing of the content, also of a leased blob with a snapshot, and no room."""
    assert put(storage, name) == 201
    storage._blob(name).create_snapshot()
    BlobLeaseClient(storage._blob(name)).acquire(-1)
    storage.delete(name)
    assert [(item.name, item.size, item.snapshot) for item in everything(storage)] == [(name, 0, None)]
    assert put(storage, name) == 403
    assert storage.read(name, 100) is None
    storage.delete(names.new_name(12, "image/jpeg"))
    assert storage.listing(PREFIX) == [name]
    assert storage.delete_prefix(PREFIX) == 0
    assert everything(storage) == []


# -- deleting --------------------------------------------------------------------------------------------------------


def test_what_resists(storage: AzureStorage) -> None:
    """C37: infinite leases, snapshots, blocks that were never committed, and what a deletion left."""
    leased, kept, staged, spent, both = made = [names.new_name(12, "image/jpeg") for _ in range(5)]
    for one in (leased, kept, spent, both):
        storage.write(one, JPEG)
    for one in (leased, both):
        BlobLeaseClient(storage._blob(one)).acquire(-1)
    for one in (kept, both):
        storage._blob(one).create_snapshot()
    storage._blob(staged).stage_block(base64.b64encode(b"1").decode(), JPEG)
    storage.delete(spent)
    assert storage.read(staged, 100) is None
    assert storage.listing(PREFIX) == sorted(made)
    assert storage.delete_prefix(PREFIX) == 4
    assert storage.listing(PREFIX) == []
    assert everything(storage) == []


def test_many(storage: AzureStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """C37: page by page, in batches that the service takes."""
    monkeypatch.setattr(azure, "PAGE", 100)
    sizes = []
    plain = ContainerClient.delete_blobs

    def counted(self: ContainerClient, *blobs: Any, **options: Any) -> Any:
        sizes.append(len(blobs))
        return plain(self, *blobs, **options)

    monkeypatch.setattr(ContainerClient, "delete_blobs", counted)
    for _ in range(600):
        storage.write(names.new_name(12, "image/jpeg"), b"x")
    storage.write(names.new_name(1, "image/jpeg"), b"x")
    assert len(storage.listing(PREFIX)) == 600
    assert storage.delete_prefix(PREFIX) == 600
    assert sizes == [256, 256, 88]
    assert len(everything(storage)) == 1


def test_a_batch_that_fails_in_part(storage: AzureStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """C37: what a batch left is deleted one by one; a 404 in it, because somebody was faster, is fine."""
    plain = ContainerClient.delete_blobs

    def in_part(self: ContainerClient, *blobs: Any, **options: Any) -> Any:
        return plain(self, *blobs[:4], names.new_name(12, "image/jpeg"), **options)

    monkeypatch.setattr(ContainerClient, "delete_blobs", in_part)
    for _ in range(7):
        storage.write(names.new_name(12, "image/jpeg"), b"x")
    assert storage.delete_prefix(PREFIX) == 7
    assert everything(storage) == []


def test_what_cannot_be_deleted_is_said(storage: AzureStorage, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """C37, C38: never success; with the service's word and status, and everything else is gone."""
    other = names.new_name(12, "image/jpeg")
    for one in (name, other):
        storage.write(one, b"x")
    plain = BlobClient.delete_blob
    monkeypatch.setattr(ContainerClient, "delete_blobs", lambda self, *blobs, **options: iter(()))

    def immutable(self: BlobClient, *args: Any, **options: Any) -> None:
        if self.blob_name != name:
            return plain(self, *args, **options)
        error = HttpResponseError("the SDK's own words")
        error.status_code, error.error_code = 409, "BlobImmutableDueToPolicy"
        raise error

    monkeypatch.setattr(BlobClient, "delete_blob", immutable)
    with pytest.raises(StorageUnavailable) as raised:
        storage.delete_prefix(PREFIX)
    assert (raised.value.kind, raised.value.detail) == ("BlobImmutableDueToPolicy", 409)
    assert storage.listing(PREFIX) == [name]


def test_older_versions(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """C37, C41: an account that keeps versions gives them up too. Azurite has none."""
    versions = {"1": False, "2": True}
    settings = SimpleNamespace(content_type="image/jpeg")

    class Container:
        def list_blobs(self, prefix: str, include: list[str], results_per_page: int) -> list[Any]:
            assert "versions" in include
            common = {"name": name, "size": 1, "snapshot": None, "content_settings": settings}
            return [SimpleNamespace(version_id=one, is_current_version=now, **common) for one, now in versions.items()]

        def delete_blobs(self, *blobs: Any, **options: Any) -> Iterator[Any]:
            for blob in blobs:
                if isinstance(blob, str):
                    versions.update(dict.fromkeys(versions, False))
                else:
                    assert "delete_snapshots" not in options
                    del versions[blob["version_id"]]
            return iter(())

    monkeypatch.setattr(AzureStorage, "_container", Container())
    storage = AzureStorage(Service(Account("a", "https://a.blob.core.windows.net", KEY)), CONTAINER)
    assert storage.delete_prefix(PREFIX) == 1
    assert versions == {}


# -- away, wrong, silent -----------------------------------------------------------------------------------------


def test_a_container_that_is_not_there(azure_accounts: Accounts, name: str) -> None:
    """C37: does not look empty."""
    storage = AzureStorage(Service(account_of(azure_accounts.connection_string, "", 900)), "missing")
    for use in (
        storage.check,
        storage.canary,
        lambda: storage.read(name, 1),
        lambda: storage.write(name, b"x"),
        lambda: storage.listing(PREFIX),
        lambda: storage.delete_prefix(PREFIX),
        lambda: storage.delete(name),
    ):
        with pytest.raises(StorageUnavailable, match=r"ContainerNotFound \(404\)"):
            use()


def test_nothing_there(make_bench: Any, name: str) -> None:
    """C1, C13: the start touches no network; what needs the storage answers 503, and signing goes on."""
    bench = make_bench(
        "reference",
        CHAT_STORAGE_URL=f"azure://{CONTAINER}",
        CHAT_AZURE_CONNECTION_STRING=f"{LOCAL}{free_port()}/{ACCOUNT}",
    )
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    issued = issue(api, thread).get_json()
    assert issued["uploadUrl"].startswith("http://127.0.0.1:")
    answer = post(api, thread, issued["mediaPath"])
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")


def test_nothing_is_logged(
    azure_accounts: Accounts, storage: AzureStorage, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """C41: no address, header or key of ours by the SDK, at any level; the host's logging stays as it is."""
    caplog.set_level(logging.DEBUG)
    signed, shown = storage.sign_put(name, "image/jpeg", 9, 60), storage.sign_get(name, 60)
    storage.write(name, JPEG)
    storage.read(name, 10)
    storage.delete(name)
    storage.delete_prefix(PREFIX)
    missing = AzureStorage(storage._service, "missing")
    with pytest.raises(StorageUnavailable) as raised:
        missing.check()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert [record for record in caplog.records if record.name.startswith(("azure", "nursecare_chat"))] == []
    for secret in ("sig=", "SharedKey", KEY, signed.url, shown):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("connection", "url", "said"),
    [
        ("", "", "neither is set"),
        (f"AccountName=a;AccountKey={KEY}", "https://a.blob.core.windows.net", "both are set"),
        ("AccountName=tell;AccountKey=tale!", "", "CHAT_AZURE_CONNECTION_STRING"),
        (f"AccountKey={KEY}", "", "AccountName"),
        ("AccountName=telltale", "", "AccountKey"),
        (f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY}", "", "https except on loopback"),
        (f"AccountName=a;AccountKey={KEY};BlobEndpoint=http://telltale.test/a", "", "https except on loopback"),
        ("UseDevelopmentStorage=true", "", "AccountName"),
        ("telltale", "", "AccountName"),
        ("", "http://account.blob.core.windows.net", "https except on loopback"),
        ("", "https://telltale.test", "CHAT_AZURE_ACCOUNT_URL"),
        ("", "https://account.blob.core.windows.net/?sig=telltale", "CHAT_AZURE_ACCOUNT_URL"),
        ("", "https://user:telltale@account.blob.core.windows.net", "CHAT_AZURE_ACCOUNT_URL"),
    ],
)
def test_settings(make_bench: Any, connection: str, url: str, said: str) -> None:
    """C5: what is wrong stops the start, by its key and what is accepted, without the secret."""
    settings = {"CHAT_AZURE_CONNECTION_STRING": connection, "CHAT_AZURE_ACCOUNT_URL": url}
    with pytest.raises(ConfigurationError, match=said) as raised:
        make_bench("reference", CHAT_STORAGE_URL=f"azure://{CONTAINER}", **settings)
    assert KEY not in str(raised.value)
    assert "telltale" not in str(raised.value)


def test_accounts() -> None:
    """C5: what is accepted, and how their URLs may be used."""
    key = account_of(f"AccountName=care;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn", "", 900)
    assert (key.url, key.protocol) == ("https://care.blob.core.chinacloudapi.cn", "https")
    identity = account_of("", "https://care.blob.core.windows.net/", 900)
    assert identity == Account("care", "https://care.blob.core.windows.net", "")
    assert account_of(f"{LOCAL}1/{ACCOUNT}", "", 900).protocol == "https,http"
    with pytest.raises(ConfigurationError, match="CHAT_SIGNED_URL_TTL"):
        account_of("", identity.url, 7 * 24 * 3600)


def test_an_identity_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: the error says what to install."""
    monkeypatch.setattr(azure_account.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install nursecare-chat\[azure\]"):
        account_of("", "https://care.blob.core.windows.net", 900)


# -- an identity instead of a key ----------------------------------------------------------------------------------


class Identity:
    """A credential as Azurite believes it: a token that nobody signed."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        at = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000001/",
            "tid": "00000000-0000-0000-0000-000000000001",
            "oid": "00000000-0000-0000-0000-000000000002",
            "iat": at - 60,
            "nbf": at - 60,
            "exp": at + 3600,
        }
        parts = ({"alg": "RS256", "typ": "JWT"}, claims)
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().strip("=") for part in parts]
        return AccessToken(".".join([*encoded, "AAAA"]), at + 3600)


def test_the_key_of_an_identity_is_kept_and_renewed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """C24: one key for many addresses, none of which outlives it; with the service away the old one serves on."""
    asked: list[tuple[datetime, datetime]] = []
    at, away, tried = [1_800_000_000.0], [], []

    def give(self: BlobServiceClient, start: datetime, expiry: datetime, **options: Any) -> UserDelegationKey:
        tried.append(1)
        if away:
            raise ServiceRequestError("the SDK's own words")
        asked.append((start, expiry))
        key = UserDelegationKey()
        key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = "o", "t", "b", API_VERSION
        key.signed_start, key.signed_expiry, key.value = str(start), str(expiry), base64.b64encode(b"k").decode()
        return key

    monkeypatch.setattr(BlobServiceClient, "get_user_delegation_key", give)
    account = Account("care", "https://care.blob.core.windows.net", "")
    storage = AzureStorage(Service(account, Identity, clock=lambda: at[0]), CONTAINER)
    for _ in range(20):
        assert "skoid=o" in storage.sign_put(name, "image/jpeg", 1, 900).url
    assert len(asked) == 1
    start, expiry = asked[0]
    assert start < datetime.fromtimestamp(at[0], UTC) < expiry
    at[0] += KEY_LIFE / 2 + 1
    away.append(True)
    for _ in range(20):
        assert storage.sign_get(name, 900)
    assert storage._service._renewals.flush(5)
    away.clear()
    assert storage.sign_get(name, 900)
    assert (len(tried), len(asked)) == (2, 1)
    at[0] += RENEW_PAUSE
    assert storage.sign_get(name, 900)
    assert storage._service._renewals.flush(5)
    assert len(asked) == 2
    away.append(True)
    at[0] += KEY_LIFE + 1
    with pytest.raises(StorageUnavailable, match="ServiceRequestError"):
        storage.sign_get(name, 900)


@pytest.fixture
def with_identity(tmp_path: Path) -> Iterator[AzureStorage]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
    server = Server("--oauth", "basic", "--cert", str(cert), "--key", str(key), scheme="https")
    service = Service(account_of("", server.url, 900), Identity, connection_verify=str(cert))
    yield AzureStorage(service, CONTAINER)
    service.client.close()
    server.close()


def test_the_storage_of_an_identity(with_identity: AzureStorage, name: str) -> None:
    """C24, C37: the same without an account key."""
    storage = with_identity
    storage.create()
    storage.canary()
    with httpx.Client(verify=False) as client:
        signed = storage.sign_put(name, "image/jpeg", len(JPEG), 60)
        assert client.put(signed.url, content=JPEG, headers=signed.headers).status_code == 201
        assert client.put(signed.url, content=JPEG, headers=signed.headers).status_code == 403
        assert client.get(storage.sign_get(name, 60)).content == JPEG
    assert storage.delete_prefix(PREFIX) == 1


# -- doctor ----------------------------------------------------------------------------------------------------------


def test_cors(storage: AzureStorage) -> None:
    """C42: what browsers need is said and set, beside the account's other rules."""
    client = storage._service.client
    other = CorsRule(["https://other.test"], ["GET"], allowed_headers=["*"], max_age_in_seconds=5)
    client.set_service_properties(cors=[other])
    origins = ["https://care.test", "http://127.0.0.1:5000"]
    assert [origin in said for origin, said in zip(origins, storage.cors_problems(origins), strict=True)] == [True] * 2
    storage.fix_cors(origins[:1])
    storage.fix_cors(origins)
    assert storage.cors_problems(origins) == []
    rules = client.get_service_properties()["cors"]
    assert [rule.allowed_origins for rule in rules] == ["https://other.test", ",".join(origins)]
    client.set_service_properties(cors=[CorsRule([f"https://{n}.test"], ["GET"]) for n in range(5)])
    with pytest.raises(StorageUnavailable, match="CorsRulesFull"):
        storage.fix_cors(origins)
    client.set_service_properties(cors=[CorsRule(["*"], ["GET", "PUT", "HEAD"], allowed_headers=["x-ms-*", "*"])])
    assert storage.cors_problems(origins) == []


def test_what_could_be_recovered(storage: AzureStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """C40, C42: soft delete and policies are said. Azurite has none of them."""
    assert storage.recoverable() == []
    kept = {"delete_retention_policy": SimpleNamespace(enabled=True, days=7)}
    monkeypatch.setattr(BlobServiceClient, "get_service_properties", lambda self: kept)
    flags = SimpleNamespace(
        has_immutability_policy=True,
        has_legal_hold=True,
        immutable_storage_with_versioning_enabled=False,
        public_access="blob",
    )
    monkeypatch.setattr(ContainerClient, "get_container_properties", lambda self: flags)
    said = storage.recoverable()
    assert len(said) == 4
    for word, sentence in zip(("7 days", "immutab", "hold", "public"), said, strict=True):
        assert word in sentence


# -- the whole path --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["reference", "foreign"])
def test_from_the_upload_to_the_purge(make_bench: Any, azure_accounts: Accounts, host: str) -> None:
    """C24, C25, C37: through the API and a stranger's HTTP client, on every host."""
    bench = make_bench(host, **azure_accounts.settings())
    storage = bench.state.storage
    storage.create()
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    issued = issue(api, thread, size=len(JPEG)).get_json()
    assert post(api, thread, issued["mediaPath"]).status_code == 422
    assert httpx.request(issued["method"], issued["uploadUrl"], content=JPEG, headers=issued["headers"]).is_success
    url = post(api, thread, issued["mediaPath"]).get_json()["media_url"]
    answer = httpx.get(url)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/jpeg")
    for wrong, size in ((SVG, 9999), (JPEG, len(JPEG) - 1), (b"", 9)):
        bad = issue(api, thread, size=size).get_json()
        assert httpx.put(bad["uploadUrl"], content=wrong, headers=bad["headers"]).status_code == 201
        assert post(api, thread, bad["mediaPath"]).status_code == 422
        assert storage.read(bad["mediaPath"], 100) is None
        assert httpx.put(bad["uploadUrl"], content=JPEG, headers=bad["headers"]).status_code == 403
    waiting = issue(api, thread).get_json()
    assert httpx.put(waiting["uploadUrl"], content=JPEG, headers=waiting["headers"]).status_code == 201
    api.close(thread)
    assert everything(storage) == []
    assert httpx.get(url).status_code == 404
