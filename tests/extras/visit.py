"""One chat in a host that has nothing but the base requirements; the files beside this one say what happens in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support import plain

EVENT_STREAM = "text/event-stream"


def make_app(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str = "", **settings: str) -> Flask:
    """A host on SQLite, or on ``url``; with its tables, one client and one request of theirs."""
    surroundings = {
        "HOST_KEY": "integer",
        "HOST_MIGRATIONS": str(folder / "migrations"),
        "NURSECARE_INSTANCE": str(folder),
        "NURSECARE_DATABASE_URL": url or f"sqlite:///{folder}/host.db",
        "CHAT_QUEUE_URL": "memory://",
        **settings,
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    app = plain.create_app()
    db = app.extensions["sqlalchemy"]
    with app.app_context():
        db.create_all()
        for table, row in (("member", {"id": 1}), ("job", {"id": 1, "client_id": 1})):
            db.session.execute(db.metadata.tables[table].insert().values(row))
        db.session.commit()
        db.engine.dispose()
    return app


class Visit:
    """The client's open chat."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.http: FlaskClient = app.test_client()
        with self.http.session_transaction() as session:
            session.update(_user_id="1", _fresh=True)
        self.thread = self.http.post("/api/requests/1/chat/open").get_json()["threadId"]

    def call(self, method: str, path: str = "", **body: Any) -> Any:
        """The answer to a request beneath the thread's path."""
        return self.http.open(f"/api/chat/threads/{self.thread}{path}", method=method, json=body or None)

    def upload(self, data: bytes, content_type: str = "image/jpeg") -> tuple[int, str]:
        """The upload's status, and its path for a message."""
        issued = self.call("POST", "/uploads", contentType=content_type, size=len(data)).get_json()
        done = self.http.put(issued["uploadUrl"], data=data, headers=issued["headers"])
        return done.status_code, issued["mediaPath"]

    def goes_as_ever(self) -> None:
        """Said, heard, closed and erased."""
        assert self.call("POST", "/messages", type="text", text="hello").get_json()["seq"] == 1
        assert self.call("PATCH", "/close").get_json()["status"] == "closed"
        stream = self.call("GET", "/stream?lastEventId=0")
        assert stream.mimetype == EVENT_STREAM
        assert [line for line in stream.text.splitlines() if line.startswith("event:")] == [
            "event: MessageCreated",
            "event: ThreadClosed",
        ]
        receipt = self.call("GET", "/receipt").get_json()
        assert (receipt["state"], receipt["rowsRedacted"]) == ("settled", 1)
        assert self.call("GET", "/messages").get_json()["messages"][0]["text"] is None
