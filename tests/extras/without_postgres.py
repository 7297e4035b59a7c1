"""Where psycopg is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from nursecare_chat import Chat, ConfigurationError
from nursecare_chat.service.postgres import require_driver

from .visit import Visit, make_app

URL = "postgresql+psycopg://somebody:hunter2@localhost/host"


def test_sqlite_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C1, C10: psycopg is imported where it is used."""
    Visit(make_app(tmp_path, monkeypatch)).goes_as_ever()


@pytest.mark.parametrize("url", [URL, "postgresql://somebody:hunter2@localhost/host"])
def test_a_postgresql_address_stops_the_start(url: str) -> None:
    """C5: with what is missing and what to install, without the password."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = SQLAlchemy()
    with pytest.raises(ConfigurationError) as caught:
        Chat().init_app(app, db=db, user_model=Flask, request_model=Flask)
    assert "is missing: pip install 'nursecare-chat[postgres]'" in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://h/d", "postgresql+nothing://h/d", "postgresql+psycopg://h:x/d", "?"]
)
def test_other_addresses_are_the_hosts(url: str) -> None:
    """C7: with drivers of its own, or wrong."""
    require_driver({"SQLALCHEMY_DATABASE_URI": url})


def test_a_driver_that_the_host_gives() -> None:
    """C7: is there, whatever it is."""
    require_driver({"SQLALCHEMY_DATABASE_URI": URL, "SQLALCHEMY_ENGINE_OPTIONS": {"module": pytest}})


def test_a_host_that_makes_its_engine_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C1: hears it from SQLAlchemy, before the chat is asked."""
    with pytest.raises(ModuleNotFoundError, match="psycopg"):
        make_app(tmp_path, monkeypatch, URL)
