"""The strict JSON loader against anything at all."""

from __future__ import annotations

import contextlib
import json
import re
from decimal import Decimal
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from nursecare_chat.api import fields, loading, openapi, schemas
from nursecare_chat.errors import ValidationFailed
from nursecare_chat.service.messages import Draft

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image", "location"]) | JSON,
        **{name: JSON for name in ("text", "lat", "lng", "mediaPath", "clientMessageId", "x")},
    },
)


@given(st.binary())
@example(b"[]")
@example(b"null")
def test_bytes_are_an_object_or_refused(body: bytes) -> None:
    """C13: nothing but ValidationFailed ever comes out."""
    with contextlib.suppress(ValidationFailed):
        assert isinstance(loading.parse_json(body), dict)


@given(BODY)
def test_bodies_are_drafts_or_refused(body: dict[str, object]) -> None:
    """C13, C21: whatever a body holds is a sound draft or ValidationFailed."""
    draft = Draft("none")
    with contextlib.suppress(ValidationFailed):
        draft = schemas.draft(loading.parse_json(json.dumps(body).encode()), 100)
    if draft.type == "text":
        assert draft.text.strip()
        assert len(draft.text) <= 100
    if draft.type == "location":
        assert -90 <= draft.latitude <= 90
        assert -180 <= draft.longitude <= 180


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["\0", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
"""With what is no JSON, too: NaN, infinities; and NUL and lone surrogates in texts and keys."""


class Pairs(list[tuple[str, Any]]):
    """An object as it is written, with a key twice where it stands twice."""


NO_NUMBER = object()
"""In place of NaN and the infinities."""


def is_sound(value: Any) -> bool:
    """Whether there is nothing in it that RFC 8259 forbids or advises against, and no NUL."""
    if isinstance(value, Pairs):
        keys = [key for key, _ in value]
        return len(set(keys)) == len(keys) and all(is_sound(key) and is_sound(one) for key, one in value)
    if isinstance(value, list):
        return all(map(is_sound, value))
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    return value is not NO_NUMBER


def floats(value: Any) -> Any:
    """With floats in place of decimals."""
    if isinstance(value, dict):
        return {key: floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [floats(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value


def doubled(written: str, key: str) -> str:
    """An object in which a key stands twice, in a list in another."""
    return f'{{"a": [{{{json.dumps(key)}: 1, {json.dumps(key)}: {written}}}]}}'


WRITTEN = st.builds(json.dumps, ANY, ensure_ascii=st.booleans(), indent=st.none() | st.integers(0, 2))
BROKEN = st.builds(
    lambda written, place, put: written[: place % (len(written) + 1)] + put + written[place % (len(written) + 1) :],
    st.dictionaries(st.text(max_size=3), ANY, max_size=4).map(json.dumps),
    st.integers(0, 200),
    st.sampled_from(
        [*'{}[]",:\\0e-. \n', "\\u0000", "\\ud800", "NaN", "-Infinity", "1e400", "\ufeff", "//", "'", "\x00"]
    ),
)
OBJECTS = st.dictionaries(st.text(max_size=3), ANY, max_size=4).map(json.dumps)


@given(WRITTEN | OBJECTS | BROKEN | st.builds(doubled, WRITTEN, st.text(max_size=3)))
@example('{"a": 1e400}')
@example('{"a": 1, "\\u0061": 2}')
@example("\ufeff{}")
@example('{"a": ' + "9" * 5000 + "}")
def test_it_reads_what_pythons_own_reads_if_that_is_sound(written: str) -> None:
    """C13: the same value, for an object without a key that stands twice, NaN, infinities, NUL and lone surrogates;
    everything else is refused, and by ValidationFailed alone."""
    body = written.encode("utf-8", "surrogatepass")
    try:
        body.decode("utf-8")
        as_written = json.loads(written, object_pairs_hook=Pairs, parse_constant=lambda name: NO_NUMBER)
        sound = isinstance(as_written, Pairs) and is_sound(as_written)
    except ValueError:
        sound = False
    try:
        value = loading.parse_json(body)
    except ValidationFailed:
        assert not sound
    else:
        assert sound
        assert floats(value) == json.loads(written)


@given(st.integers(1, 3000) | st.integers(1, 60), st.sampled_from(["[]", '{"a":}']))
def test_depth_is_read_or_refused(depth: int, brackets: str) -> None:
    """C13: what is as deep as anybody needs is read, and no depth is an error of ours."""
    start, end = brackets[:-1], brackets[-1]
    body = f'{{"x": {start * depth}1{end * depth}}}'.encode()
    try:
        value = loading.parse_json(body)["x"]
    except ValidationFailed:
        assert depth > 60
    else:
        for _ in range(depth):
            (value,) = value.values() if isinstance(value, dict) else value
        assert value == 1


NUMBERS = st.from_regex(r"\A\s?[+-]?[0-9_]{1,21}\Z") | st.text("0123456789٠१²", min_size=1) | st.integers(0).map(str)


@given(st.text() | NUMBERS)
def test_a_query_has_every_number_of_64_bits_and_no_other(text: str) -> None:
    """C13, C19: ASCII digits, leading zeros too."""
    digits = re.fullmatch("[0-9]{1,19}", text) is not None
    for name in ("cursor", "after"):
        try:
            number = schemas.load(schemas.MessagesQuery(), {name: text})[name]
        except ValidationFailed:
            assert not digits or int(text) >= 2**63
        else:
            assert digits
            assert number == int(text) < 2**63
    try:
        limit = schemas.load(schemas.MessagesQuery(), {"limit": text})["limit"]
    except ValidationFailed:
        assert not re.fullmatch("[0-9]+", text) or not text.strip("0")
    else:
        assert limit == min(int(text), 50)


@given(
    st.sampled_from([90, 180]), st.from_regex(rf"\A{fields.COORDINATE}\Z") | st.from_regex(r"\A-?0?(90|180)\.0*1?\Z")
)
def test_the_document_has_the_degrees_that_pass(bound: int, text: str) -> None:
    """C21, C28."""
    schema = {90: "lat", 180: "lng"}[bound]
    body = {"type": "location", "lat": 0, "lng": 0, schema: text}
    try:
        schemas.draft(body, 100)
    except ValidationFailed:
        passes = False
    else:
        passes = True
    assert bool(re.fullmatch(fields.WITHIN[bound], text)) is passes


def test_the_document_has_the_texts_that_are_not_blank() -> None:
    """C21, C28: character by character; Python and ECMA have other ideas of a space, so the document says which."""
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    assert re.findall(openapi.NOT_BLANK, every) == [character for character in every if character.strip()]
