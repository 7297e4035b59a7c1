"""What every storage promises, and what the local one promises besides."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import request
from flask.testing import FlaskClient
from itsdangerous import URLSafeSerializer

from nursecare_chat.config import storage_folder
from nursecare_chat.errors import AlreadyUploaded, Busy, StorageUnavailable, UnsupportedMediaType
from nursecare_chat.storage import names
from nursecare_chat.storage.base import BlobStorage
from nursecare_chat.storage.local import AT_ONCE, PART, LocalStorage

from ..support.hosts import Workbench
from ..support.live import Live
from ..support.photos import issue, post, put
from ..support.pictures import SVG, picture

MINE, OTHER = names.prefix(12), names.prefix(1)
JPEG = picture()


@dataclass
class Case:
    """A storage, and a way to use its signed URLs as a stranger on the network does."""

    storage: BlobStorage
    client: Any
    seconds: float = 1.1
    """After which a URL for one second is over, by the storage's clock."""

    def put(self, name: str, data: bytes = JPEG, size: int | None = None, ttl: int = 60, **headers: str) -> int:
        signed = self.storage.sign_put(name, names.content_type_of(name), len(data) if size is None else size, ttl)
        assert signed.method == "PUT"
        return self.send(signed.url, data, **{**signed.headers, **headers})

    def send(self, url: str, data: bytes, **headers: str) -> int:
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        body = {"data": data} if isinstance(self.client, FlaskClient) else {"content": data}
        return int(self.client.put(url, headers=given, **body).status_code)

    def get(self, url: str) -> Any:
        return self.client.get(url)


@pytest.fixture(params=["local", "azure"])
def case(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Iterator[Case]:
    """Each implementation in turn."""
    if request.param == "local":
        bench = make_bench("reference")
        yield Case(bench.state.storage, bench.app.test_client())
        return
    bench = make_bench("reference", **request.getfixturevalue("azure_accounts").settings())
    bench.state.storage.create()
    with httpx.Client() as client:
        yield Case(bench.state.storage, client, 2.1)


@pytest.fixture
def local(case: Case) -> LocalStorage:
    assert isinstance(case.storage, LocalStorage)
    return case.storage


on_local = pytest.mark.parametrize("case", ["local"], indirect=True)


@pytest.fixture
def name() -> str:
    return names.new_name(12, "image/jpeg")


@pytest.mark.parametrize("content_type", names.EXTENSIONS)
def test_up_and_down(case: Case, content_type: str) -> None:
    """C24: what was put is what is read, by the server and through a signed URL, with its type."""
    name, data = names.new_name(12, content_type), picture(content_type)
    assert case.put(name, data) == 201
    assert case.storage.read(name, len(data)) == data
    response = case.get(case.storage.sign_get(name, 60))
    body = response.data if isinstance(case.client, FlaskClient) else response.content
    assert (response.status_code, body, response.headers["Content-Type"]) == (200, data, content_type)
    assert response.headers["Cache-Control"] == "no-store"


@on_local
def test_a_photo_is_what_it_says(case: Case, local: LocalStorage, name: str) -> None:
    """C24: no browser guesses another type."""
    local.write(name, JPEG)
    assert case.get(local.sign_get(name, 60)).headers["X-Content-Type-Options"] == "nosniff"


def test_names_cannot_be_guessed() -> None:
    """C24: chats/{threadId}/{32 hex}.{jpg|png|webp}, another each time."""
    made = {names.new_name(7, kind) for kind in names.EXTENSIONS for _ in range(50)}
    assert len(made) == 150
    assert all(names.is_name(name) and name.startswith("chats/7/") for name in made)


def test_a_url_creates_once(case: Case, name: str) -> None:
    """C24: no overwrite, not with the same, nor by another URL for the same name, nor after a deletion."""
    signed = case.storage.sign_put(name, "image/jpeg", len(JPEG), 60)
    assert case.send(signed.url, JPEG, **signed.headers) == 201
    assert case.send(signed.url, JPEG, **signed.headers) in (403, 409)
    assert case.put(name, picture(size=(8, 8))) in (403, 409)
    assert case.storage.read(name, 10**6) == JPEG
    case.storage.delete(name)
    assert case.send(signed.url, JPEG, **signed.headers) in (403, 409)
    assert case.storage.read(name, 10**6) is None


def test_urls_expire(case: Case, name: str) -> None:
    """C24, C20: for the TTL and no longer."""
    upload = case.storage.sign_put(name, "image/jpeg", len(JPEG), 1)
    assert case.put(name) == 201
    download = case.storage.sign_get(name, 1)
    assert case.get(download).status_code == 200
    time.sleep(case.seconds)
    assert case.get(download).status_code == 403
    late = names.new_name(12, "image/jpeg")
    assert case.put(late, ttl=1) == 201
    assert case.send(upload.url, JPEG, **upload.headers) == 403


def test_reading_shows_what_is_too_long(case: Case, name: str) -> None:
    """C25: one byte more than asked for, so that the caller sees it."""
    case.put(name)
    assert case.storage.read(name, 10) == JPEG[:11]
    assert case.storage.read(names.new_name(12, "image/jpeg"), 10) is None


def test_the_servers_own_writing(case: Case, name: str) -> None:
    """C25: a copy may be written again."""
    for data in (JPEG, picture(size=(5, 5))):
        case.storage.write(name, data)
        assert case.storage.read(name, 10**6) == data


def test_deleting_by_prefix(case: Case) -> None:
    """C37: everything under it and nothing beside it: chats/1/ is not chats/12/."""
    mine = sorted(names.new_name(12, "image/jpeg") for _ in range(5))
    other = names.new_name(1, "image/jpeg")
    for name in [*mine, other]:
        assert case.put(name) == 201
    assert sorted(case.storage.listing(MINE)) == mine
    assert case.storage.delete_prefix(OTHER) == 1
    assert sorted(case.storage.listing(MINE)) == mine
    assert case.storage.delete_prefix(MINE) == 5
    assert case.storage.listing(MINE) == []
    assert case.storage.delete_prefix(MINE) == 0
    assert case.get(case.storage.sign_get(mine[0], 60)).status_code == 404


def test_deleting_what_is_not_there(case: Case, name: str) -> None:
    """C37: none is as good."""
    case.storage.delete(name)


def test_the_canary(case: Case) -> None:
    """C42: doctor's own blob goes up, down and away, and meets no thread's."""
    case.storage.canary()


BAD_NAMES = [
    "", "chats/12/", "../x.jpg", "chats/12/../1/" + "0" * 32 + ".jpg", "chats/12/" + "0" * 32 + ".svg",
    "chats/12/" + "0" * 31 + ".jpg", "chats/12/" + "0" * 32 + ".jpg\n", "/chats/12/" + "0" * 32 + ".jpg",
    "chats/012/" + "0" * 32 + ".jpg", "chats/12/" + "A" * 32 + ".jpg", "chats\\12\\" + "0" * 32 + ".jpg",
    "chats//12/" + "0" * 32 + ".jpg", "chats/12/%2e%2e/" + "0" * 32 + ".jpg", "chats/١٢/" + "0" * 32 + ".jpg",
    "chats/12/" + "0" * 32 + ".jpg\0", "CHATS/12/" + "0" * 32 + ".jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_none(case: Case, name: str) -> None:
    """C24: whoever calls, no other name reaches the storage."""
    for use in (
        lambda: case.storage.sign_put(name, "image/jpeg", 1, 1),
        lambda: case.storage.sign_get(name, 1),
        lambda: case.storage.read(name, 1),
        lambda: case.storage.write(name, b"x"),
        lambda: case.storage.delete(name),
    ):
        with pytest.raises(ValueError, match="not a blob's name"):
            use()


@pytest.mark.parametrize("prefix", ["", "/", "chats/", "chats/1", "chats/1//", "chats/../", "chats/0/", "chats/1/\n"])
def test_prefixes_that_are_none(case: Case, prefix: str) -> None:
    """C37: the slash is part of it."""
    for use in (case.storage.listing, case.storage.delete_prefix):
        with pytest.raises(ValueError, match="not a thread's prefix"):
            use(prefix)


# -- the local storage alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "size", "headers", "status"),
    [
        (JPEG, len(JPEG) - 1, {}, 413),
        (JPEG + b"\0", len(JPEG), {}, 413),
        (SVG, 1000, {}, 415),
        (b"<html>" + JPEG, 9999, {}, 415),
        (b"", 1000, {}, 415),
        (b"\xff\xd8", 1000, {}, 415),
        (picture("image/png"), 9999, {}, 415),
        (JPEG, 9999, {"Content_Type": "image/png"}, 415),
        (JPEG, 9999, {"Content_Type": "text/html"}, 415),
        (JPEG, 9999, {"Content_Type": ""}, 415),
    ],
)
@on_local
def test_size_and_type_are_enforced_at_the_put(
    case: Case, local: LocalStorage, name: str, data: bytes, size: int, headers: dict[str, str], status: int
) -> None:
    """C24: refused, nothing stored, and the address good for another try."""
    assert case.put(name, data, size, **headers) == status
    assert local.listing(MINE) == []
    assert case.put(name, JPEG, 9999) == 201


@on_local
def test_a_chunked_body_is_cut_off_at_the_declared_size(case: Case, local: LocalStorage, name: str) -> None:
    """C24, C13: enforced while reading, not after."""
    body = io.BytesIO(JPEG + b"x" * 5_000_000)
    signed = local.sign_put(name, "image/jpeg", 100_000, 60)
    response = case.client.put(
        signed.url,
        input_stream=body,
        headers={**signed.headers, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.status_code == 413
    assert body.tell() <= 300_000
    assert local.listing(MINE) == []


@on_local
def test_a_wrong_type_is_seen_at_the_first_bytes(case: Case, local: LocalStorage, name: str) -> None:
    """C24: before the rest is read."""
    taken = []

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            taken.append(1)
            yield b"<svg" * 100

    grant = local.verify("put", local.sign_put(name, "image/jpeg", 10**6, 60).url.rpartition("/")[2])
    with pytest.raises(UnsupportedMediaType):
        local.receive(grant, chunks())
    assert len(taken) == 1


@on_local
def test_a_body_that_breaks_off(case: Case, local: LocalStorage, name: str) -> None:
    """C24: 400, nothing half-written, and the address good for another try."""
    signed = local.sign_put(name, "image/jpeg", len(JPEG), 60)
    response = case.client.put(
        signed.url, data=JPEG[:50], headers=signed.headers, environ_overrides={"CONTENT_LENGTH": str(len(JPEG))}
    )
    assert (response.status_code, response.get_json()["code"]) == (400, "bad_request")
    assert local.listing(MINE) == []
    assert case.send(signed.url, JPEG, **signed.headers) == 201


@on_local
def test_a_used_address_is_not_read(case: Case, local: LocalStorage, name: str) -> None:
    """C24: nobody fills the disk through one, again and again."""
    grant = local.verify("put", local.sign_put(name, "image/jpeg", len(JPEG), 60).url.rpartition("/")[2])
    local.receive(grant, [JPEG])
    again = iter([JPEG])
    with pytest.raises(AlreadyUploaded):
        local.receive(grant, again)
    assert list(again) == [JPEG]


def unfinished(local: LocalStorage, name: str, count: int) -> None:
    """What a process leaves that is killed in the middle of uploads."""
    target = local._root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        target.with_name(f"{target.name}.{number}{PART}").write_bytes(JPEG[:20])


@on_local
def test_a_process_was_killed_in_mid_upload(case: Case, local: LocalStorage, name: str) -> None:
    """C24: what it left is under way no more, so the address is as good as before."""
    signed = local.sign_put(name, "image/jpeg", len(JPEG), 60)
    unfinished(local, name, AT_ONCE)
    assert case.send(signed.url, JPEG, **signed.headers) == 201
    assert len(local.listing(MINE)) == AT_ONCE


@on_local
def test_who_was_silent_for_longest_gives_way(local: LocalStorage, name: str) -> None:
    """C24: to whoever comes later, and is told that trying again may help; no more of it is read, or the disk fills."""
    grant = local.verify("put", local.sign_put(name, "image/jpeg", len(JPEG), 60).url.rpartition("/")[2])

    def silent() -> Iterator[bytes]:
        yield JPEG[:20]
        unfinished(local, name, AT_ONCE - 1)
        local.receive(grant, [JPEG])
        yield JPEG[20:30]
        yield JPEG[30:]

    body = silent()
    with pytest.raises(Busy):
        local.receive(grant, body)
    assert [*body] == [JPEG[30:]]
    assert local.read(name, 10**6) == JPEG


@on_local
def test_twenty_puts_at_once(case: Case, local: LocalStorage, name: str) -> None:
    """C24: one of them creates it; those that may be under way come to the last step together, the others give way."""
    grant = local.verify("put", local.sign_put(name, "image/jpeg", len(JPEG), 60).url.rpartition("/")[2])
    together = threading.Barrier(AT_ONCE)

    def put(number: int) -> str:
        def chunks() -> Iterator[bytes]:
            with suppress(threading.BrokenBarrierError):  # one that came when others were done
                together.wait(5)
            yield JPEG[:-1] + bytes([number])

        try:
            local.receive(grant, chunks())
        except Exception as error:
            return type(error).__name__
        return "created"

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(put, range(20)))
    assert {*outcomes} <= {"AlreadyUploaded", "Busy", "created"}
    assert outcomes.count("created") == 1
    assert local.read(name, 10**6)[-1] == outcomes.index("created")
    assert local.listing(MINE) == [name]


def forged(storage: LocalStorage, name: str) -> list[str]:
    """Tokens that somebody might try."""
    good = storage.sign_put(name, "image/jpeg", 100, 60).url.rpartition("/")[2]
    payload, _, signature = good.partition(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps([fields[0], fields[1], 10**9, fields[3]]).encode()).decode().strip("=")
    return [
        good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        f"{other}.{signature}",
        payload,
        f"{payload}.",
        ".",
        "x",
        "ü",
        "a" * 3000,
        f".{good}",
        URLSafeSerializer("secret", salt="nursecare_chat.put").dumps(fields),
        storage.sign_get(name, 60).rpartition("/")[2],
    ]


@on_local
def test_signatures(case: Case, local: LocalStorage, name: str) -> None:
    """C24, C11: neither another's, nor changed, nor that for the other method; one error shape, nothing written."""
    for token in forged(local, name):
        response = case.client.put(f"/api/chat/media/{token}", data=JPEG, content_type="image/jpeg")
        assert (response.status_code, response.get_json()["code"]) == (403, "bad_signature"), token
    upload = local.sign_put(name, "image/jpeg", 9999, 60).url
    assert case.get(upload).status_code == 403
    assert local.listing(MINE) == []


def test_no_login_no_origin_but_the_flag(case: Case, make_bench: Any, name: str) -> None:
    """C11: the address is the right; from another site, too; switched off, 501."""
    bench = make_bench("foreign")
    storage, nobody = bench.state.storage, bench.app.test_client()
    signed = storage.sign_put(name, "image/jpeg", 9999, 60)
    headers = {**signed.headers, "Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.test"}
    bench.app.config["CHAT_ENABLED"] = False
    assert nobody.put(signed.url, data=JPEG, headers=headers).status_code == 501
    assert nobody.get(storage.sign_get(name, 60)).status_code == 501
    bench.app.config["CHAT_ENABLED"] = True
    assert nobody.put(signed.url, data=JPEG, headers=headers).status_code == 201
    assert nobody.get(storage.sign_get(name, 60)).data == JPEG
    assert nobody.head(storage.sign_get(name, 60)).headers["Content-Length"] == str(len(JPEG))
    assert nobody.post(signed.url).status_code in (401, 405)


def test_the_hosts_limit_on_bodies_is_the_hosts(make_bench: Any, name: str) -> None:
    """C7, C24: a photo may be larger than what the host takes elsewhere."""
    bench = make_bench("reference", MAX_CONTENT_LENGTH=500)
    big = picture(size=(900, 900), quality=100)
    assert len(big) > 500
    case = Case(bench.state.storage, bench.app.test_client())
    assert case.put(name, big) == 201


def test_addresses_of_a_mounted_host(make_bench: Any, name: str) -> None:
    """C24: a path on the application's own origin, wherever the server has mounted it."""
    bench = make_bench("reference")
    api = bench.login("client")
    mounted = {"base_url": "http://localhost/care/"}
    thread = api.call("POST", "/api/requests/1/chat/open", **mounted).get_json()["threadId"]
    wanted = {"contentType": "image/jpeg", "size": len(JPEG)}
    issued = api.call("POST", f"/api/chat/threads/{thread}/uploads", json=wanted, **mounted).get_json()
    assert issued["uploadUrl"].startswith("/care/api/chat/media/")
    assert issue(api, thread).get_json()["uploadUrl"].startswith("/api/chat/media/")


@pytest.mark.parametrize(
    "script_name", ["//evil.test", "///evil.test/", "/\\evil.test", "/https://evil.test", "/x//y/"]
)
def test_what_a_proxys_header_says_is_for_its_own_answer(make_bench: Any, script_name: str) -> None:
    """C11, C24: no request decides where others' addresses lead, nor its own to another host."""
    bench = make_bench("reference")
    api, nobody = bench.login("client"), bench.login(None)
    thread = api.open(1).get_json()["threadId"]
    spoofed = {"environ_overrides": {"SCRIPT_NAME": script_name}}
    assert nobody.call("GET", "/api/chat/threads", **spoofed).status_code == 401
    wanted = {"contentType": "image/jpeg", "size": len(JPEG)}
    path = f"/api/chat/threads/{thread}/uploads"
    own = api.call("POST", path, json=wanted, **spoofed).get_json()["uploadUrl"]
    assert re.fullmatch(r"/[^/\\][^\\]*/api/chat/media/[\w.-]+", own)
    assert "//" not in own
    theirs = api.call("POST", path, json=wanted).get_json()
    assert theirs["uploadUrl"].startswith("/api/chat/media/")
    assert put(api, theirs) == 201
    assert post(api, thread, theirs["mediaPath"]).get_json()["media_url"].startswith("/api/chat/media/")
    once = {"wsgi.multithread": False}
    for mount, environ in (("", once), ("/care", {**once, "SCRIPT_NAME": "/care"})):
        stream = api.stream(thread, "0", environ_overrides=environ)
        assert f'"media_url":"{mount}/api/chat/media/'.encode() in stream.data


def test_folder_by_setting(tmp_path: Path) -> None:
    """C5, C24: file:// is in the instance folder, file:///a/folder is that; others may not look into it."""
    assert storage_folder("file://", "/srv/instance") == Path("/srv/instance/chat-media")
    assert storage_folder(f"file://{tmp_path}/with%20space", "/srv") == tmp_path / "with space"
    storage = LocalStorage(tmp_path / "media", lambda: [b"k"], "/m")
    name = names.new_name(3, "image/png")
    storage.write(name, b"x")
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in (tmp_path / "media" / "chats" / "3").rglob("*")}
    assert modes == {0o600}


def test_a_full_disk(tmp_path: Path, name: str) -> None:
    """C13: 503, and nothing half-written."""
    storage = LocalStorage(Path("/dev/null/media"), lambda: [b"k"], "/m")
    with pytest.raises(StorageUnavailable) as raised:
        storage.write(name, b"x")
    assert raised.value.status == 503
    assert raised.value.headers == {"Retry-After": "1"}


def test_a_folder_that_cannot_be(make_bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    """C13, C24: through the route, in the one error shape, and said to the operator."""
    bench = make_bench("reference", CHAT_STORAGE_URL="file:///dev/null/media")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    response = issue(api, thread)
    assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "1"
    assert "chat storage error: NotADirectoryError" in caplog.text
    assert all(issue(api, thread).status_code == 503 for _ in range(6))  # none of them waits


@on_local
def test_a_full_disk_at_the_last_step(
    case: Case, local: LocalStorage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C24: what was not created leaves the address good for another try."""

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        assert case.put(name) == 503
    assert local.listing(MINE) == []
    assert case.put(name) == 201


@pytest.mark.parametrize("kind", ["gevent", "gthread", "sync", "development"])
def test_a_connection_that_breaks_off(live_servers: Callable[..., Live], kind: str) -> None:
    """C24: on every server: half a photo is none, and the address is good for another try."""
    live = live_servers(kind, "reference")
    client = live.login("client")
    thread = live.new_thread()
    wanted = {"contentType": "image/jpeg", "size": len(JPEG)}
    issued = client.http.post(f"/api/chat/threads/{thread}/uploads", json=wanted).json()
    host, port = live.server.url.removeprefix("http://").split(":")
    head = f"PUT {issued['uploadUrl']} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}Content-Length: {len(JPEG)}\r\n\r\n".encode() + JPEG[: len(JPEG) // 2])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(100)
    again = client.http.put(issued["uploadUrl"], content=JPEG, headers=issued["headers"])
    assert again.status_code == 201
    posted = client.http.post(
        f"/api/chat/threads/{thread}/messages", json={"type": "image", "mediaPath": issued["mediaPath"]}
    )
    assert client.http.get(posted.json()["media_url"]).status_code == 200


def test_a_host_that_reads_every_body(make_bench: Any, name: str) -> None:
    """C7, C24: what it has read is what we take."""
    bench = make_bench("reference")
    bench.app.before_request(lambda: request.get_data() and None)
    case = Case(bench.state.storage, bench.app.test_client())
    assert case.put(name) == 201
    assert case.put(names.new_name(12, "image/jpeg"), SVG, 9999) == 415


def test_a_folder_that_is_not_the_one(tmp_path: Path) -> None:
    """C37: a place where nothing was ever signed is no empty storage."""
    storage = LocalStorage(tmp_path / "media", lambda: [b"k"], "/m")
    with pytest.raises(StorageUnavailable):
        storage.check()
    storage.sign_put(names.new_name(1, "image/png"), "image/png", 1, 1)
    storage.check()
