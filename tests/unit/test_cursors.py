"""The ids of an inbox's stream, and the names of photos, against anything at all."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from nursecare_chat import keys
from nursecare_chat.service.cursors import NEWEST, Cursor, Cursors, Mark, total
from nursecare_chat.storage import names

SECRETS = [b"the present one", b"the one before"]
CURSORS = Cursors(lambda: SECRETS)
USERS = st.integers(1, 2**63 - 1) | st.uuids() | st.text(min_size=1)
NUMBERS = st.integers(0, 2**63 - 1)
LAST = NUMBERS | st.integers(0, 1000)
MARKS = st.builds(Mark, st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)), NUMBERS, NUMBERS, LAST)
THREADS = st.sets(st.integers(1, 2**63 - 1) | st.integers(1, 2000), max_size=20)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(USERS, MARKS, THREADS)
def test_an_id_comes_back_as_it_went(user: Any, mark: Mark, threads: set[int]) -> None:
    """C46: with any mark, by an older key too, and in at most 200 bytes that may stand in a header and an address."""
    for cursors in (CURSORS, Cursors(lambda: SECRETS[1:])):
        written = cursors.encode(user, mark, threads)
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,200}", written)
        covered = {thread for thread in threads if thread <= mark.threads}
        newest = {thread for thread in covered if thread > mark.threads - NEWEST}
        assert CURSORS.decode(user, written) == Cursor(mark, total(covered), frozenset(newest))


@given(USERS, USERS, MARKS, st.integers(0, 159), st.sampled_from(LETTERS))
def test_another_id_is_garbage(user: Any, other: Any, mark: Mark, place: int, letter: str) -> None:
    """C46: somebody else's, another application's, and one with a letter changed: it says no other place."""
    written = CURSORS.encode(user, mark, [1])
    if keys.wire(user) != keys.wire(other) and str(user) != str(other):
        assert CURSORS.decode(other, written) is None
    assert Cursors(lambda: [b"another key"]).decode(user, written) is None
    changed = written[:place] + letter + written[place + 1 :]
    assert (CURSORS.decode(user, changed) is None) == (changed != written)


@given(USERS, st.text() | st.text(LETTERS, min_size=159, max_size=161) | st.text("Ａé\n=", min_size=160, max_size=160))
@example(1, "A" * 160)
@example(1, "A" * 160 + "\n")
def test_any_text_is_garbage(user: Any, text: str) -> None:
    """C46, C13: and never an exception."""
    assert CURSORS.decode(user, text) is None


@given(st.text() | st.text("0123456789٠१_+- \n"))
@example("1_0")
@example(str(2**63))
def test_any_text_is_a_key_or_none(text: str) -> None:
    """C13: an id in a path is ASCII digits of 64 bits."""
    digits = re.fullmatch("[0-9]{1,19}", text) is not None and int(text) < 2**63
    assert keys.parse_integer(text) == (int(text) if digits else None)


NEARLY = st.builds(
    "{}{}/{}{}.{}{}".format,
    st.sampled_from(["chats/", "chats//", "Chats/", "/chats/", "chats/../chats/", "chats%2f", "chats\\"]),
    st.sampled_from(["1", "12", "01", "-1", "+1", "", "١", "1/2", "9" * 19, "9" * 20]),
    st.text("0123456789abcdef", min_size=31, max_size=33) | st.text("0123456789abcdefABCDEF", min_size=32, max_size=32),
    st.sampled_from(["", "", "", "\n", "/.."]),
    st.sampled_from(["jpg", "png", "webp", "JPG", "jpeg", "svg", "", "jpg.png"]),
    st.sampled_from(["", "", "", "\n", "\0", " ", "?x", ".spent"]),
)


@given(st.text() | NEARLY, st.integers(1, 2**63 - 1), st.sampled_from(sorted(names.EXTENSIONS)))
def test_a_photos_name_is_what_is_issued(text: str, thread: int, content_type: str) -> None:
    """C24, C25: the whole of it, letter by letter; what is issued is one, and says its type and its thread."""
    issued = names.new_name(thread, content_type)
    assert names.is_name(issued)
    assert names.content_type_of(issued) == content_type
    assert issued.startswith(names.prefix(thread))
    assert names.is_prefix(names.prefix(thread))
    parts = text.split("/")
    looks = len(parts) == 3 and parts[0] == "chats"
    stem, _, extension = parts[-1].partition(".")
    number = parts[1] if looks else ""
    looks = looks and set(number) <= set("0123456789") and number[:1] not in ("", "0") and len(number) <= 19
    looks = looks and len(stem) == 32 and set(stem) <= set("0123456789abcdef") and extension in names.TYPES
    assert names.is_name(text) is looks
