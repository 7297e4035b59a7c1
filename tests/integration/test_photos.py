"""Photos over HTTP on every host: ask for an address, put, post, and look."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from PIL import Image

from nursecare_chat.clock import utcnow
from nursecare_chat.errors import ThreadClosed
from nursecare_chat.service import images as images_module
from nursecare_chat.storage import names

from ..support.hosts import BOTH_WAYS, VARIED, Api, Workbench
from ..support.photos import issue, media, post, put, refused, smuggle, upload, uploads
from ..support.pictures import SECRET, SVG, picture, read, telling
from ..support.sse import parse

TYPES = ["image/jpeg", "image/png", "image/webp"]


@pytest.mark.parametrize("bench", BOTH_WAYS, indirect=True)
@pytest.mark.parametrize("content_type", TYPES)
def test_a_photo_goes_all_the_way(
    bench: Workbench, client_api: Api, admin_api: Api, thread: int, content_type: str
) -> None:
    """C24, C25, C20: answer, list and stream have a signed address, which gives the picture."""
    data = picture(content_type)
    issued = issue(client_api, thread, content_type, len(data))
    assert issued.status_code == 200
    body = issued.get_json()
    assert set(body) == {"mediaPath", "uploadUrl", "method", "headers", "expiresAt"}
    assert names.is_name(body["mediaPath"])
    assert body["mediaPath"].startswith(f"chats/{thread}/")
    assert put(client_api, body, data) == 201
    posted = post(client_api, thread, body["mediaPath"])
    assert set(posted.get_json()) == {"id", "seq", "media_url"}
    (message,) = admin_api.messages(thread).get_json()["messages"]
    assert (message["type"], message["text"], message["lat"]) == ("image", None, None)
    _, (event, *_) = parse(_stream_once(bench, thread))
    for url in (posted.get_json()["media_url"], message["media_url"], event.json["media_url"]):
        response = bench.login(None).call("GET", url)
        assert (response.status_code, response.mimetype) == (200, content_type)
        assert read(response.data).size == (60, 40)


def _stream_once(bench: Workbench, thread: int) -> bytes:
    admin = bench.login("admin")
    answer = admin.stream(thread, "0", environ_overrides={"wsgi.multithread": False})
    return bytes(answer.data)


@pytest.mark.parametrize("content_type", TYPES)
def test_metadata_stays_behind(
    bench: Workbench, client_api: Api, thread: int, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    """C25, C41: where it was taken, by what, comments, profiles, bytes behind its end: gone, also from Pillow's own
    log; and it is upright.
    """
    caplog.set_level(logging.DEBUG)
    data = telling(content_type)
    assert data.count(SECRET) >= 2
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        original = upload(client_api, thread, data, content_type)
        url = post(client_api, thread, original).get_json()["media_url"]
        shown = client_api.call("GET", url).data
    assert SECRET.decode() not in caplog.text
    assert "GPS" not in caplog.text
    image = read(shown)
    assert image.size == (40, 60)
    assert SECRET not in shown
    assert dict(image.getexif()) == {}
    assert not {"exif", "xmp", "icc_profile", "comment", "Comment"} & set(image.info)
    red, blue = image.convert("RGB").getpixel((20, 10)), image.convert("RGB").getpixel((20, 50))
    assert red[0] > 200 > red[2]
    assert blue[2] > 200 > blue[0]
    assert original not in media(bench, thread)
    with bench.state.database.read() as connection:
        stored = connection.scalar(sa.select(bench.state.models.messages.c.media_path))
    assert media(bench, thread) == [stored]


def test_without_pillow(make_bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """C25: magic bytes and size are checked all the same, the photo stays as it came, and the operator is told."""
    monkeypatch.setattr(images_module, "Image", None)
    bench = make_bench("reference", TESTING=False)
    assert "Pillow is missing" in caplog.text
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    data = telling("image/jpeg")
    path = upload(api, thread, data)
    answer = post(api, thread, path, clientMessageId="k")
    assert api.call("GET", answer.get_json()["media_url"]).data == data
    assert media(bench, thread) == [path]
    assert post(api, thread, path, clientMessageId="k").get_json()["seq"] == 1
    issued = issue(api, thread).get_json()
    smuggle(bench, issued["mediaPath"], SVG)
    refused(post(api, thread, issued["mediaPath"]))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_pictures_of_every_mode(client_api: Api, thread: int, mode: str) -> None:
    """C25: grey, transparent, with a palette, 16 bits deep, for print."""
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = io.BytesIO()
    Image.new(mode, (30, 20)).save(data, kind)
    content_type = f"image/{kind.lower()}"
    path = upload(client_api, thread, data.getvalue(), content_type)
    url = post(client_api, thread, path).get_json()["media_url"]
    assert read(client_api.call("GET", url).data).size == (30, 20)


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"contentType", "size"}),
        ({"contentType": "image/svg+xml", "size": 1}, {"contentType"}),
        ({"contentType": "image/gif", "size": 1}, {"contentType"}),
        ({"contentType": "IMAGE/JPEG", "size": 1}, {"contentType"}),
        ({"contentType": "image/jpeg; x=y", "size": 1}, {"contentType"}),
        ({"contentType": None, "size": 1}, {"contentType"}),
        ({"contentType": ["image/jpeg"], "size": 1}, {"contentType"}),
        ({"contentType": "image/jpeg", "size": 10485761}, {"size"}),
        ({"contentType": "image/jpeg", "size": 10**30}, {"size"}),
        ({"contentType": "image/jpeg", "size": 0}, {"size"}),
        ({"contentType": "image/jpeg", "size": -1}, {"size"}),
        ({"contentType": "image/jpeg", "size": 1.5}, {"size"}),
        ({"contentType": "image/jpeg", "size": "10"}, {"size"}),
        ({"contentType": "image/jpeg", "size": True}, {"size"}),
        ({"contentType": "image/jpeg", "size": None}, {"size"}),
        ({"contentType": "image/jpeg", "size": 1, "path": "chats/1/x.jpg"}, {"path"}),
    ],
)
def test_what_may_not_be_uploaded(
    bench: Workbench, client_api: Api, thread: int, body: dict[str, Any], fields: set[str]
) -> None:
    """C24, C13: 422 with the fields named; nothing is issued."""
    response = client_api.call("POST", f"/api/chat/threads/{thread}/uploads", json=body)
    assert (response.status_code, set(response.get_json()["errors"])) == (422, fields)
    assert uploads(bench) == []


@pytest.mark.parametrize("bench", VARIED, indirect=True)
def test_a_whole_size_may_be_written_with_a_point(client_api: Api, thread: int) -> None:
    """C24, C28: 1.0 is an integer by JSON Schema, so by our document; what made requests from that was refused."""
    for size in ("100.0", "1e2"):
        body = f'{{"contentType": "image/jpeg", "size": {size}}}'
        path = f"/api/chat/threads/{thread}/uploads"
        assert client_api.call("POST", path, data=body, content_type="application/json").status_code == 200


def test_types_and_size_by_setting(make_bench: Any) -> None:
    """C5, C24."""
    api = make_bench("reference", CHAT_ALLOWED_IMAGE_MIME="image/png", CHAT_MAX_IMAGE_BYTES=100).login("client")
    thread = api.open(1).get_json()["threadId"]
    assert issue(api, thread, "image/png", 100).status_code == 200
    assert issue(api, thread, "image/png", 101).status_code == 422
    assert issue(api, thread, "image/jpeg", 100).status_code == 422


def test_who_may_upload(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C24, C11: who may post; a closed thread takes nothing."""
    for who, status in (("client", 200), ("admin", 200), ("client2", 403), ("nurse", 403), (None, 401)):
        assert issue(bench.login(who), thread).status_code == status, who
    assert issue(client_api, 999).status_code == 404
    client_api.close(thread)
    for api in (client_api, admin_api):
        response = issue(api, thread)
        assert (response.status_code, response.get_json()["code"]) == (403, "thread_closed")
    assert issue(bench.login("nurse"), thread).get_json()["code"] == "forbidden"


def test_a_wish_that_passed_the_gates_before_the_close(bench: Workbench, client_api: Api, thread: int) -> None:
    """C24: what counts the waiting ones also proves the thread open."""
    client_api.close(thread)
    with bench.app.app_context():
        sender = bench.host.user_id("client")
        with pytest.raises(ThreadClosed):
            bench.state.uploads.issue(thread, sender, "image/jpeg", 1)
    assert uploads(bench) == []


def test_five_may_wait(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C24: the sixth is 429 with the seconds until one expires, after validation; per sender and thread."""
    waiting = [issue(client_api, thread).get_json() for _ in range(5)]
    response = issue(client_api, thread)
    assert (response.status_code, response.get_json()["code"]) == (429, "too_many_uploads")
    if bench.host.application != "foreign":  # whose own limiter writes this header on every answer
        assert 890 <= int(response.headers["Retry-After"]) <= 900
    assert issue(client_api, thread, "image/gif").status_code == 422
    assert issue(admin_api, thread).status_code == 200
    other = client_api.open(2).get_json()["threadId"]
    assert issue(client_api, other).status_code == 200
    put(client_api, waiting[0])
    assert post(client_api, thread, waiting[0]["mediaPath"]).status_code == 200
    assert issue(client_api, thread).status_code == 200
    assert issue(client_api, thread).status_code == 429
    table = bench.state.models.uploads
    with bench.state.database.write() as unit:
        unit.connection.execute(table.update().values(expires_at=utcnow(-1)))
    assert issue(client_api, thread).status_code == 200


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
def test_ten_asking_at_once(make_bench: Any, host: str) -> None:
    """C24: five get an address."""
    bench = make_bench(host)
    thread = bench.login("client").open(1).get_json()["threadId"]
    apis = [bench.login("client") for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(pool.map(lambda api: issue(api, thread).status_code, apis))
    assert statuses == [200] * 5 + [429] * 5


@pytest.mark.parametrize("bench", BOTH_WAYS, indirect=True)
def test_a_retry_of_a_photo(bench: Workbench, client_api: Api, thread: int) -> None:
    """C23 before C25's "not posted before": the same answer, one row; another photo under that id is 422."""
    path, second = upload(client_api, thread), upload(client_api, thread)
    answers = [post(client_api, thread, path, clientMessageId="p1").get_json() for _ in range(3)]
    assert {(answer["id"], answer["seq"]) for answer in answers} == {(answers[0]["id"], 1)}
    assert client_api.call("GET", answers[2]["media_url"]).status_code == 200
    other = post(client_api, thread, second, clientMessageId="p1")
    assert (other.status_code, list(other.get_json()["errors"])) == (422, ["clientMessageId"])
    assert client_api.say(thread, "text", clientMessageId="p1").status_code == 422
    assert post(client_api, thread, second, clientMessageId="p2").get_json()["seq"] == 2


@pytest.mark.parametrize("host", ["reference", "foreign"])
@pytest.mark.parametrize("client_message_id", [None, "same"])
def test_the_same_photo_twelve_times_at_once(make_bench: Any, host: str, client_message_id: str | None) -> None:
    """C23, C25: one message; those that retry get its answer, the others are refused; its picture is there."""
    bench = make_bench(host)
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    path = upload(api, thread)
    apis = [bench.login("client") for _ in range(12)]
    more = {} if client_message_id is None else {"clientMessageId": client_message_id}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda api: post(api, thread, path, **more), apis))
    good = [answer.get_json() for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 422}
    assert len(good) == (12 if client_message_id else 1)
    assert {answer["seq"] for answer in good} == {1}
    assert api.thread(thread).get_json()["lastSeq"] == 1
    assert read(api.call("GET", good[0]["media_url"]).data).size == (60, 40)
    assert len(media(bench, thread)) == 1


@pytest.mark.parametrize("bench", BOTH_WAYS, indirect=True)
def test_a_photo_racing_a_close(bench: Workbench, client_api: Api, thread: int, monkeypatch: Any) -> None:
    """C22, C25: closed and purged while it was decoded: refused, and neither photo nor copy is left."""
    path = upload(client_api, thread)
    clean = bench.state.images.clean

    def slow(data: bytes, content_type: str) -> bytes:
        bench.login("admin").close(thread)
        return clean(data, content_type)

    monkeypatch.setattr(bench.state.images, "clean", slow)
    response = post(client_api, thread, path)
    assert (response.status_code, response.get_json()["code"]) == (403, "thread_closed")
    assert media(bench, thread) == []
