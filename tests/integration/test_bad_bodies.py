"""Bodies that must be refused: 422, nothing written, never 5xx."""

from __future__ import annotations

from typing import Any

import pytest

from ..support.hosts import Api, Workbench

TEXT = '"type":"text","text":'
PLACE = '"type":"location",'

MALFORMED = [
    "", " ", "{", "[]", '"text"', "null", "1", "true", "{}{}", "{'type':'text'}", '{"type":"text",}',
    "[" * 60000, '{"a":' * 10000 + "1" + "}" * 10000,
    '{"type":"text","text":"x","type":"text"}', '{"type":"text","text":"x","te\\u0078t":"y"}',
    f'{{{TEXT}"a\\u0000b"}}', f'{{{TEXT}"\\ud800"}}', f'{{{TEXT}"\\udc00\\ud800"}}', f'{{{TEXT}"raw \x01 control"}}',
    f'{{{PLACE}"lat":NaN,"lng":0}}', f'{{{PLACE}"lat":Infinity,"lng":0}}', f'{{{PLACE}"lat":1,"lng":-Infinity}}',
    f'{{{PLACE}"lat":{"9" * 5000},"lng":0}}', f'{{{PLACE}"lat":1e99999999999999999999,"lng":0}}',
    '{"type":"text","text":"x","\\u0000":1}',
]  # fmt: skip
INVALID = [
    ("{}", {"type"}),
    ('{"type":null}', {"type"}),
    ('{"type":"video"}', {"type"}),
    ('{"type":["text"]}', {"type"}),
    ('{"type":"TEXT","text":"x"}', {"type"}),
    ('{"type":"text"}', {"text"}),
    ('{"type":"text","text":null}', {"text"}),
    ('{"type":"text","text":" \\t\\n\\u00a0\\u2003"}', {"text"}),
    ('{"type":"text","text":""}', {"text"}),
    ('{"type":"text","text":5}', {"text"}),
    ('{"type":"text","text":["x"]}', {"text"}),
    ('{"type":"text","text":"' + "x" * 5001 + '"}', {"text"}),
    ('{"type":"text","text":"x","lat":1}', {"lat"}),
    ('{"type":"text","text":"x","mediaPath":"chats/1/a.jpg"}', {"mediaPath"}),
    ('{"type":"text","text":"x","sender_id":1}', {"sender_id"}),
    ('{"type":"text","text":"x","unknown":null}', {"unknown"}),
    ('{"type":"text","text":"x","clientMessageId":""}', {"clientMessageId"}),
    ('{"type":"text","text":"x","clientMessageId":7}', {"clientMessageId"}),
    ('{"type":"text","text":"x","clientMessageId":"' + "a" * 65 + '"}', {"clientMessageId"}),
    ('{"type":"text","text":"x","clientMessageId":"é"}', {"clientMessageId"}),
    ('{"type":"text","text":"x","clientMessageId":"a\\n"}', {"clientMessageId"}),
    ('{"type":"location"}', {"lat", "lng"}),
    ('{"type":"location","lat":1}', {"lng"}),
    ('{"type":"location","lat":90.00000001,"lng":0}', {"lat"}),
    ('{"type":"location","lat":0,"lng":-180.1}', {"lng"}),
    ('{"type":"location","lat":1e400,"lng":0}', {"lat"}),
    ('{"type":"location","lat":true,"lng":0}', {"lat"}),
    ('{"type":"location","lat":"1_0","lng":0}', {"lat"}),
    ('{"type":"location","lat":"١٢","lng":0}', {"lat"}),
    ('{"type":"location","lat":"1.","lng":0}', {"lat"}),
    ('{"type":"location","lat":"+1","lng":0}', {"lat"}),
    ('{"type":"location","lat":" 1","lng":0}', {"lat"}),
    ('{"type":"location","lat":"1\\n","lng":0}', {"lat"}),
    ('{"type":"location","lat":"0001","lng":0}', {"lat"}),
    ('{"type":"location","lat":"NaN","lng":0}', {"lat"}),
    ('{"type":"location","lat":"1e1","lng":0}', {"lat"}),
    ('{"type":"location","lat":[1],"lng":{}}', {"lat", "lng"}),
    ('{"type":"location","lat":1,"lng":1,"text":"x"}', {"text"}),
    ('{"type":"image"}', {"mediaPath"}),
    ('{"type":"image","mediaPath":7}', {"mediaPath"}),
]


@pytest.fixture(params=["reference"])
def bench(request: pytest.FixtureRequest, make_bench: Any) -> Workbench:
    """One host: what a body may be does not depend on it."""
    return make_bench(request.param)


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(client_api: Api, thread: int, body: str) -> None:
    """C13: malformed and over-deep JSON, duplicates, NUL, surrogates, NaN and infinities."""
    response = client_api.post(thread, body.encode("utf-8"))
    assert (response.status_code, response.get_json()["code"]) == (422, "validation_failed")
    assert set(response.get_json()["errors"]) == {"_schema"}  # no field is at fault: nothing of it is believed
    assert client_api.thread(thread).get_json()["lastSeq"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{\x00}\x00",
        b'{"type":"text","text":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"type":"text","text":"x"}',
        b"\x00",
    ],
)
def test_not_utf8(client_api: Api, thread: int, body: bytes) -> None:
    """C13: RFC 8259 knows UTF-8 only, without a byte order mark."""
    assert client_api.post(thread, body).status_code == 422


@pytest.mark.parametrize(("body", "fields"), INVALID, ids=range(len(INVALID)))
def test_invalid(client_api: Api, thread: int, body: str, fields: set[str]) -> None:
    """C13, C21, C23: the fields that are wrong are named."""
    response = client_api.post(thread, body)
    assert (response.status_code, response.get_json()["code"]) == (422, "validation_failed")
    assert set(response.get_json()["errors"]) == fields
    assert all(isinstance(text, str) for texts in response.get_json()["errors"].values() for text in texts)
    assert client_api.thread(thread).get_json()["lastSeq"] == 0


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "multipart/form-data"]
)
def test_other_content_types(client_api: Api, thread: int, kind: str) -> None:
    """C13: 415."""
    response = client_api.post(thread, '{"type":"text","text":"x"}', content_type=kind)
    assert (response.status_code, response.get_json()["code"]) == (415, "unsupported_media_type")


def test_json_with_a_charset(client_api: Api, thread: int) -> None:
    """C13: a parameter does not change the type."""
    response = client_api.post(thread, '{"type":"text","text":"x"}', content_type="Application/JSON; charset=UTF-8")
    assert response.status_code == 200


def test_open_and_close_need_no_body(client_api: Api) -> None:
    """C17, C26: none is required, and one that comes is not looked at."""
    assert client_api.open(1, data=b"", content_type="application/json").status_code == 200
    thread = client_api.open(1, data=b"{not json").get_json()["threadId"]
    assert client_api.close(thread, data=b"{}", content_type="text/plain").status_code == 200
