"""Where Pillow is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from .visit import Visit, make_app

JPEG = b"\xff\xd8\xff\xe1\x00\x0cExif\0\0GPS." + b"\xff\xdb" + bytes(60) + b"\xff\xd9"
"""Its first bytes are a photo's, and where it was taken stands in it."""


def test_photos_stay_as_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C25: the type is looked at, the pixels are not."""
    visit = Visit(make_app(tmp_path, monkeypatch))
    status, path = visit.upload(JPEG)
    shown = visit.call("POST", "/messages", type="image", mediaPath=path).get_json()["media_url"]
    assert (status, visit.http.get(shown).data) == (201, JPEG)
    status, path = visit.upload(b"<html>" + JPEG)
    assert (status, visit.call("POST", "/messages", type="image", mediaPath=path).status_code) == (415, 422)


def test_all_else_is_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C1."""
    Visit(make_app(tmp_path, monkeypatch)).goes_as_ever()


def test_the_doctor_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C42: with what to install."""
    said = make_app(tmp_path, monkeypatch).test_cli_runner().invoke(args=["chat", "doctor"]).output
    assert "Install nursecare_chat[images]." in said
