"""What whoever holds an upload address can do with it and after it, and that a close removes all of that."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobType, ContainerClient, StandardBlobTier

from nursecare_chat.errors import ChatError
from nursecare_chat.service import uploads
from nursecare_chat.storage import names
from nursecare_chat.storage.azure import HIDDEN, AzureStorage
from nursecare_chat.storage.azure_account import API_VERSION
from nursecare_chat.testing import advance

from ..support.azurite import Accounts
from ..support.hosts import Api, Workbench
from ..support.photos import issue, media, post
from ..support.pictures import JPEG

HUGE = 64 * 2**20
BLOCK = base64.b64encode(b"1").decode()
BLOCK_BLOB = {"x-ms-blob-type": "BlockBlob"}
PAGE_BLOB = {"x-ms-blob-type": "PageBlob", "x-ms-blob-content-length": "512"}
APPEND_BLOB = {"x-ms-blob-type": "AppendBlob"}
SOURCE = "x-ms-copy-source"


class Way(NamedTuple):
    """A request to an upload address: what is added to it, and its status for a name without and with a blob."""

    query: str
    headers: dict[str, str]
    body: bytes
    fresh: int
    taken: int


WAYS = {
    "as agreed": Way("", BLOCK_BLOB, JPEG, 201, 403),
    "another type": Way("", {**BLOCK_BLOB, "Content-Type": "text/html"}, b"<script>", 201, 403),
    "empty": Way("", BLOCK_BLOB, b"", 201, 403),
    "page blob": Way("", PAGE_BLOB, b"", 201, 403),
    "append blob": Way("", APPEND_BLOB, b"", 201, 403),
    "metadata": Way("", {**BLOCK_BLOB, "x-ms-meta-a": "b"}, JPEG, 201, 403),
    "archived": Way("", {**BLOCK_BLOB, "x-ms-access-tier": "Archive"}, JPEG, 201, 403),
    "copied": Way("", {SOURCE: "here"}, b"", 202, 403),
    "copied at once": Way("", {SOURCE: "here", "x-ms-requires-sync": "true"}, b"", 202, 403),
    "snapshot": Way("&comp=snapshot", {}, b"", 404, 201),
    "staged": Way(f"&comp=block&blockid={BLOCK}", {}, JPEG, 403, 403),
    "staged by copy": Way(f"&comp=block&blockid={BLOCK}", {SOURCE: "here"}, b"", 403, 403),
    "block list": Way("&comp=blocklist", {}, f"<BlockList><Latest>{BLOCK}</Latest></BlockList>".encode(), 403, 403),
    "append": Way("&comp=appendblock", {}, b"x", 403, 403),
    "lease": Way("&comp=lease", {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1"}, b"", 403, 403),
    "set metadata": Way("&comp=metadata", {"x-ms-meta-a": "b"}, b"", 403, 403),
    "set tags": Way("&comp=tags", {}, b"<Tags><TagSet></TagSet></Tags>", 403, 403),
    "set tier": Way("&comp=tier", {"x-ms-access-tier": "Archive"}, b"", 403, 403),
    "set type": Way("&comp=properties", {"x-ms-blob-content-type": "text/html"}, b"", 403, 403),
    "undelete": Way("&comp=undelete", {}, b"", 403, 403),
}
"""What Azure's table of permissions for a service SAS says of ``sp=c``
(https://learn.microsoft.com/rest/api/storageservices/create-service-sas#permissions-for-a-directory-container-or-blob).
"""


@pytest.fixture
def bench(make_bench: Callable[..., Workbench], azure_accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setattr(uploads, "MAX_WAITING", 100)
    bench = make_bench("reference", **azure_accounts.settings())
    bench.state.storage.create()
    return bench


@pytest.fixture
def storage(bench: Workbench) -> AzureStorage:
    found: AzureStorage = bench.state.storage
    return found


def everything(storage: AzureStorage) -> list[str]:
    """As the service itself lists it, in the whole container."""
    return [item.name for item in storage._container.list_blobs(include=HIDDEN)]


def receipt(api: Api, thread: int) -> dict[str, Any]:
    shown: dict[str, Any] = api.call("GET", f"/api/chat/threads/{thread}/receipt").get_json()
    return shown


def go(way: Way, url: str, source: str) -> int:
    headers = {"x-ms-version": API_VERSION, **way.headers}
    if SOURCE in headers:
        headers[SOURCE] = source
    return httpx.put(url + way.query, headers=headers, content=way.body, timeout=60).status_code


def test_every_way_in_is_erased(storage: AzureStorage, bench: Workbench, client_api: Api, thread: int) -> None:
    """C24, C37, C39, C40: each status; the post refuses what is no photo; the purge ends and nothing is left, of what
    came after it neither; signed only then.
    """
    elsewhere = names.new_name(10**6, "image/jpeg")
    storage.write(elsewhere, JPEG)
    source = storage.sign_get(elsewhere, 60)
    made, answers = {}, {}
    for what, way in WAYS.items():
        made[what] = issue(client_api, thread, size=len(JPEG)).get_json()
        fresh = go(way, made[what]["uploadUrl"], source)
        if fresh >= 400:
            assert go(WAYS["as agreed"], made[what]["uploadUrl"], source) == 201
        answers[what] = (fresh, go(way, made[what]["uploadUrl"], source))
    assert answers == {what: (way.fresh, way.taken) for what, way in WAYS.items()}
    photos = {"as agreed", "metadata", "copied", "copied at once"} | {w for w in WAYS if WAYS[w].fresh >= 400}
    posted = {what: post(client_api, thread, one["mediaPath"]).status_code for what, one in made.items()}
    assert posted == {what: 200 if what in photos else 422 for what in WAYS}
    for what in ("another type", "page blob"):
        assert storage.read(made[what]["mediaPath"], 100) is None
        assert go(WAYS["as agreed"], made[what]["uploadUrl"], source) == 403
    huge, late = (issue(client_api, thread, size=len(JPEG)).get_json() for _ in range(2))
    assert go(Way("", BLOCK_BLOB, JPEG + bytes(HUGE), 201, 403), huge["uploadUrl"], source) == 201
    assert post(client_api, thread, huge["mediaPath"]).status_code == 422
    assert storage.read(huge["mediaPath"], 100) is None
    assert client_api.close(thread).status_code == 200
    assert everything(storage) == [elsewhere]
    shown = receipt(client_api, thread)
    assert (shown["state"], shown["signature"], shown["listing"]) == ("purged", None, [])
    assert [go(WAYS[what], late["uploadUrl"], source) for what in ("copied", "snapshot")] == [202, 201]
    advance(bench.app, 900 + 21 * 60)
    for _ in range(3):
        assert receipt(client_api, thread)["signature"] is None
        assert bench.state.purges.sweep() == 1
        assert everything(storage) == [elsewhere]
        advance(bench.app, 61)
    shown = receipt(client_api, thread)
    assert (shown["state"], shown["blobsFound"] - shown["blobsDeleted"]) == ("settled", 0)
    assert shown["signature"]


def test_names_that_are_not_its_own(storage: AzureStorage, client_api: Api, thread: int) -> None:
    """C24: the address is for its one name, however that is written."""
    issued = issue(client_api, thread).get_json()
    own, other = issued["mediaPath"], client_api.open(2).get_json()["threadId"]
    for name in (
        own.replace(f"/{thread}/", f"/{other}/"),
        own.upper(),
        f"{own}/x.jpg",
        f"{own}%00",
        f"chats/{thread}/../{other}/{own.rpartition('/')[2]}",
        own.replace(".jpg", ".png"),
        "x.jpg",
    ):
        assert go(WAYS["as agreed"], issued["uploadUrl"].replace(own, name), "") == 403, name
    assert everything(storage) == []


def test_what_an_operators_tool_left(storage: AzureStorage, bench: Workbench, client_api: Api, thread: int) -> None:
    """C37: with the account's key: leases without an end, snapshots, blocks, other types, tiers and names."""
    prefix, container = names.prefix(thread), storage._container
    issued = [issue(client_api, thread).get_json() for _ in range(3)]
    for one in issued:
        assert go(WAYS["as agreed"], one["uploadUrl"], "") == 201
    shown = post(client_api, thread, issued[0]["mediaPath"]).get_json()["media_url"]
    posted = shown.partition("?")[0].partition(prefix)[2]
    for name in (prefix + posted, *(one["mediaPath"] for one in issued)):
        blob = container.get_blob_client(name)
        blob.create_snapshot()
        BlobLeaseClient(blob).acquire(-1)
    container.get_blob_client(f"{prefix}backup/of it all.tar").stage_block(BLOCK, JPEG)
    container.upload_blob(f"{prefix}notes", b"x" * 600, blob_type=BlobType.AppendBlob, metadata={"a": "b"})
    container.upload_blob(f"{prefix}disk", bytes(512), blob_type=BlobType.PageBlob)
    container.upload_blob(f"{prefix}cold", b"x", standard_blob_tier=StandardBlobTier.ARCHIVE)
    beside = names.new_name(int(f"{thread}0"), "image/jpeg")
    storage.write(beside, JPEG)
    client_api.close(thread)
    assert everything(storage) == [beside]
    assert httpx.get(shown).status_code == 404
    advance(bench.app, 900 + 21 * 60)
    while bench.state.purges.sweep():
        advance(bench.app, 61)
    assert receipt(client_api, thread)["state"] == "settled"


def conflict(code: str) -> HttpResponseError:
    error = HttpResponseError("the SDK's own words")
    error.status_code, error.error_code = 409, code
    return error


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names to which a copy is under way. Azurite's are over at once."""
    copying: set[str] = set()
    real = {name: getattr(BlobClient, name) for name in ("delete_blob", "upload_blob", "get_blob_properties")}

    def refused(name: str) -> Callable[..., Any]:
        def call(self: BlobClient, *args: Any, **options: Any) -> Any:
            if self.blob_name in copying:
                raise conflict("PendingCopyOperation")
            return real[name](self, *args, **options)

        return call

    def properties(self: BlobClient, **options: Any) -> Any:
        found = real["get_blob_properties"](self, **options)
        if self.blob_name in copying:
            found.copy = SimpleNamespace(status="pending", id="of the copy")
        return found

    def abort(self: BlobClient, copy_id: str, **options: Any) -> None:
        assert copy_id == "of the copy"
        copying.remove(self.blob_name)

    in_batches = ContainerClient.delete_blobs

    def batch(self: ContainerClient, *blobs: Any, **options: Any) -> Any:
        free = [name for name in blobs if name not in copying]
        return in_batches(self, *free, **options) if free else iter(())

    for name in ("delete_blob", "upload_blob"):
        monkeypatch.setattr(BlobClient, name, refused(name))
    monkeypatch.setattr(BlobClient, "get_blob_properties", properties)
    monkeypatch.setattr(BlobClient, "abort_copy", abort)
    monkeypatch.setattr(ContainerClient, "delete_blobs", batch)
    return copying


def test_a_copy_that_is_under_way(storage: AzureStorage, client_api: Api, thread: int, pending: set[str]) -> None:
    """C37: a slow source feeds it for two weeks; it is ended, by the purge and where a post refuses the blob."""
    refused, waiting = (issue(client_api, thread).get_json() for _ in range(2))
    for one in (refused, waiting):
        assert go(WAYS["another type"], one["uploadUrl"], "") == 201
        pending.add(one["mediaPath"])
    assert post(client_api, thread, refused["mediaPath"]).status_code == 422
    assert pending == {waiting["mediaPath"]}
    assert storage.read(refused["mediaPath"], 100) is None
    BlobLeaseClient(storage._blob(waiting["mediaPath"])).acquire(-1)
    client_api.close(thread)
    assert everything(storage) == []
    assert receipt(client_api, thread)["state"] == "purged"


def test_a_type_that_cannot_be_overwritten(
    storage: AzureStorage, client_api: Api, thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C25: the service keeps a blob's type for its life, Azurite does not: what was refused is gone all the same."""
    issued = issue(client_api, thread).get_json()
    assert go(WAYS["page blob"], issued["uploadUrl"], "") == 201
    real = BlobClient.upload_blob

    def upload(self: BlobClient, *args: Any, **options: Any) -> Any:
        if self.exists() and self.get_blob_properties().blob_type != BlobType.BLOCKBLOB:
            raise conflict("InvalidBlobType")
        return real(self, *args, **options)

    monkeypatch.setattr(BlobClient, "upload_blob", upload)
    assert post(client_api, thread, issued["mediaPath"]).status_code == 422
    assert storage._blob(issued["mediaPath"]).get_blob_properties().size == 0
    assert go(WAYS["as agreed"], issued["uploadUrl"], "") == 403


def test_an_upload_that_the_close_overtakes(make_bench: Callable[..., Workbench]) -> None:
    """C37, C39: on the local storage: it begins before the close and ends behind the purge, and what it left goes."""
    bench = make_bench("reference")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    storage = bench.state.storage
    issued = issue(api, thread, size=len(JPEG)).get_json()
    grant = storage.verify("put", issued["uploadUrl"].rpartition("/")[2])

    def slowly() -> Iterator[bytes]:
        yield JPEG[:100]
        assert media(bench, thread)
        assert api.close(thread).status_code == 200
        assert media(bench, thread) == []
        yield JPEG[100:]

    with suppress(ChatError):
        storage.receive(grant, slowly())
    assert receipt(api, thread)["signature"] is None
    advance(bench.app, 900 + 21 * 60)
    while bench.state.purges.sweep():
        assert media(bench, thread) == []
        advance(bench.app, 61)
    assert receipt(api, thread)["state"] == "settled"
    assert [file for file in storage._root.rglob("*") if file.is_file()] == [storage._root / ".nursecare-chat"]
