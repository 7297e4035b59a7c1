"""What is no photo of the sender's in this chat, and is refused, on every host."""

from __future__ import annotations

from typing import Any

import pytest

from nursecare_chat.service import images as images_module

from ..support.hosts import VARIED, Api, Workbench
from ..support.photos import issue, media, post, put, refused, smuggle, upload
from ..support.pictures import JPEG, SVG, bomb, picture, read


class Counting:
    """The storage, counting the calls that reach it."""

    def __init__(self, storage: Any) -> None:
        self.storage, self.calls = storage, 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self.storage, name)


FOREIGN = [
    "chats/1/" + "0" * 32 + ".jpg", "../etc/passwd", "", "http://localhost/", "x" * 2048,
]  # fmt: skip


def spellings(path: str) -> list[str]:
    """Other ways to write a path that was issued."""
    folder, _, name = path.rpartition("/")
    return [
        f"{path}\n", f" {path}", f"{path} ", f"/{path}", f"./{path}", path.upper(), path.replace("chats", "Chats"),
        path.replace("/", "\\"), path.replace("/", "//"), path.replace("/", "%2f"), f"{folder}/../{folder[6:]}/{name}",
        f"{folder}/./{name}", f"{folder}/%2e%2e/{name}", f"{folder}/\u2024\u2024/{name}", f"{path}?x", f"{path}#",
        f"{path}%00", f"{path}.jpg", path[:-4], path[:-4] + ".png", path.replace("chats/", "chats/0"), f"file:///{path}",
        path.replace(folder, folder + "234"), f"https://host.test/{path}",
        path.replace("a", "\uff41").replace("0", "\uff10"),
    ]  # fmt: skip


def test_paths_that_were_not_issued(bench: Workbench, client_api: Api, thread: int) -> None:
    """C25, C24: whole-string match against what was issued to this sender here; no call to storage, nothing touched."""
    mine = upload(client_api, thread)
    before = media(bench, thread)
    counting = bench.state.uploads._storage = Counting(bench.state.storage)
    for path in FOREIGN + [other for other in spellings(mine) if other != mine]:
        refused(post(client_api, thread, path))
    assert counting.calls == 0
    assert media(bench, thread) == before
    assert client_api.thread(thread).get_json()["lastSeq"] == 0


def test_anothers_path_and_another_threads(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C25: issued to this sender in this thread; a wrong one touches nothing, the right one still works."""
    path = upload(client_api, thread)
    other = client_api.open(2).get_json()["threadId"]
    refused(post(admin_api, thread, path))
    refused(post(client_api, other, path))
    assert media(bench, thread) == [path]
    assert post(client_api, thread, path).status_code == 200


def test_nothing_uploaded_yet(client_api: Api, thread: int) -> None:
    """C25: 422, and the path lives: the upload may still be on its way."""
    issued = issue(client_api, thread).get_json()
    refused(post(client_api, thread, issued["mediaPath"]))
    assert put(client_api, issued) == 201
    assert post(client_api, thread, issued["mediaPath"]).status_code == 200


def test_posted_before(bench: Workbench, client_api: Api, thread: int) -> None:
    """C25, C24: a photo is posted once, and its address does not work again either."""
    issued = issue(client_api, thread, size=len(JPEG)).get_json()
    assert put(client_api, issued) == 201
    assert post(client_api, thread, issued["mediaPath"]).status_code == 200
    refused(post(client_api, thread, issued["mediaPath"]))
    refused(post(client_api, thread, issued["mediaPath"], clientMessageId="new"))
    assert put(client_api, issued) == 409
    assert client_api.thread(thread).get_json()["lastSeq"] == 1


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(
    ("data", "declared"),
    [
        (SVG, 9999),
        (b"<html><script>", 9999),
        (b"", 9999),
        (picture("image/png"), 9999),
        (b"\xff\xd8\xff\xe0" + SVG, 9999),
        (JPEG[:200], 9999),
        (JPEG, len(JPEG) - 1),
        (bomb(), 9999),
    ],
    ids=["svg", "html", "empty", "png", "polyglot", "half", "too long", "bomb"],
)
def test_what_is_no_such_picture(bench: Workbench, client_api: Api, thread: int, data: bytes, declared: int) -> None:
    """C25: 422, the blob is deleted and its path dead, though a storage let it in."""
    content_type = (
        "image/png"
        if data.startswith(b"\x89PNG") and len(data) < 2000 and data != picture("image/png")
        else "image/jpeg"
    )
    path = issue(client_api, thread, content_type, declared).get_json()["mediaPath"]
    smuggle(bench, path, data)
    refused(post(client_api, thread, path))
    assert media(bench, thread) == []
    smuggle(bench, path, picture(content_type, size=(2, 2)))
    refused(post(client_api, thread, path))
    assert media(bench, thread) == [path]  # looked at no more
    assert client_api.thread(thread).get_json()["lastSeq"] == 0


def test_a_photo_of_a_thousand_million_pixels(bench: Workbench, client_api: Api, thread: int) -> None:
    """C25: its header is believed, its pixels never decoded; it goes in by its own address."""
    data = bomb()
    assert len(data) < 2000
    path = upload(client_api, thread, data, "image/png")
    response = post(client_api, thread, path)
    refused(response)
    assert "pixels" in response.get_json()["errors"]["mediaPath"][0]
    assert media(bench, thread) == []


@pytest.mark.parametrize("pixels", [(100, 100), (101, 100)])
def test_the_pixel_cap(make_bench: Any, monkeypatch: pytest.MonkeyPatch, pixels: tuple[int, int]) -> None:
    """C25: at the cap it passes."""
    monkeypatch.setattr(images_module, "MAX_PIXELS", 10_000)
    api = make_bench("reference").login("client")
    thread = api.open(1).get_json()["threadId"]
    path = upload(api, thread, picture(size=pixels))
    assert post(api, thread, path).status_code == (200 if pixels == (100, 100) else 422)


def test_a_rejected_one_does_not_wait(client_api: Api, bench: Workbench, thread: int) -> None:
    """C24, C25: five bad photos do not keep the sixth, good one out."""
    for _ in range(6):
        path = issue(client_api, thread).get_json()["mediaPath"]
        smuggle(bench, path, SVG)
        refused(post(client_api, thread, path))
    assert post(client_api, thread, upload(client_api, thread)).status_code == 200


def test_a_picture_in_thousands_of_passes(bench: Workbench, client_api: Api, thread: int) -> None:
    """C25: each pass costs the time of a whole picture, so there is a bound; an ordinary progressive one passes."""
    ordinary = picture(size=(64, 64), progressive=True)
    assert post(client_api, thread, upload(client_api, thread, ordinary)).status_code == 200
    scan = ordinary[ordinary.rindex(b"\xff\xda") : -2]
    many = ordinary[:-2] + scan * 200 + ordinary[-2:]
    refused(post(client_api, thread, upload(client_api, thread, many)))


def test_large_photos_are_decoded_smaller(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C25: above half the cap a JPEG is taken at half its width and height, other formats are refused."""
    monkeypatch.setattr(images_module, "MAX_FULL_PIXELS", 5_000)
    api = make_bench("reference").login("client")
    thread = api.open(1).get_json()["threadId"]
    url = post(api, thread, upload(api, thread, picture(size=(100, 60)))).get_json()["media_url"]
    assert read(api.call("GET", url).data).size == (50, 30)
    refused(post(api, thread, upload(api, thread, picture("image/png", (100, 60)), "image/png")))


@pytest.mark.parametrize("error", [MemoryError, ImportError])
def test_what_is_not_the_pictures_fault(
    bench: Workbench, client_api: Api, thread: int, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """C25, C13: 503, and the photo is there for another try."""
    path = upload(client_api, thread)

    def fail(*args: Any) -> None:
        raise error()

    with monkeypatch.context() as patch:
        patch.setattr(images_module.ImageOps, "exif_transpose", fail)
        response = post(client_api, thread, path)
    assert (response.status_code, response.headers["Retry-After"]) == (503, response.headers["Retry-After"])
    assert media(bench, thread) == [path]
    assert post(client_api, thread, path).status_code == 200


def test_a_crowd_of_photos(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C7, C13: those beyond a bounded queue are asked to come again, and do not hold the host's connections."""
    monkeypatch.setattr(images_module, "PATIENCE", 0.2)
    bench = make_bench("reference")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    path = upload(api, thread)
    images = bench.state.images
    for _ in range(images_module.AT_ONCE):
        assert images._places.acquire(timeout=1)
    response = post(api, thread, path)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    for _ in range(images_module.AT_ONCE):
        images._places.release()
    assert post(api, thread, path).status_code == 200


def test_erased_under_the_post(bench: Workbench, client_api: Api, thread: int, monkeypatch: Any) -> None:
    """C22: closed and purged just before the photo is looked at: thread_closed, not that it is missing."""
    path = upload(client_api, thread)
    read_blob = bench.state.storage.read

    def late(name: str, limit: int) -> bytes | None:
        bench.login("admin").close(thread)
        return read_blob(name, limit)

    monkeypatch.setattr(bench.state.storage, "read", late)
    response = post(client_api, thread, path)
    assert (response.status_code, response.get_json()["code"]) == (403, "thread_closed")
