"""The strict JSON loader against anything at all."""

from __future__ import annotations

import contextlib
import json

from hypothesis import example, given
from hypothesis import strategies as st

from nursecare_chat.api import loading, schemas
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


@given(st.text())
def test_queries_are_numbers_or_refused(text: str) -> None:
    """C13, C19: ASCII digits within 64 bits; limit from 1 to 50."""
    with contextlib.suppress(ValidationFailed):
        number = schemas.load(schemas.MessagesQuery(), {"cursor": text})["cursor"]
        assert text.isascii()
        assert 0 <= number < 2**63
    with contextlib.suppress(ValidationFailed):
        assert 1 <= schemas.load(schemas.MessagesQuery(), {"limit": text})["limit"] <= 50
