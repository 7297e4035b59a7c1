"""What people do to send a photo, and what is then where."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from nursecare_chat.storage import names

from .hosts import Api, Workbench
from .pictures import JPEG


def issue(api: Api, thread: int, content_type: str = "image/jpeg", size: int = 9999) -> Any:
    return api.call("POST", f"/api/chat/threads/{thread}/uploads", json={"contentType": content_type, "size": size})


def put(api: Api, issued: dict[str, Any], data: bytes = JPEG) -> int:
    """By somebody without a session, as the address is the right."""
    nobody = api.bench.login(None)
    return int(nobody.call(issued["method"], issued["uploadUrl"], data=data, headers=issued["headers"]).status_code)


def post(api: Api, thread: int, path: str, **more: Any) -> Any:
    return api.post(thread, {"type": "image", "mediaPath": path, **more})


def upload(api: Api, thread: int, data: bytes = JPEG, content_type: str = "image/jpeg") -> str:
    """An uploaded photo's path."""
    issued = issue(api, thread, content_type, len(data)).get_json()
    assert put(api, issued, data) == 201
    path: str = issued["mediaPath"]
    return path


def smuggle(bench: Workbench, path: str, data: bytes) -> None:
    """What a storage that does not look, as the cloud's, would have taken."""
    bench.state.storage.write(path, data)


def refused(response: Any) -> None:
    assert (response.status_code, list(response.get_json()["errors"])) == (422, ["mediaPath"])


def media(bench: Workbench, thread: int) -> list[str]:
    return list(bench.state.storage.listing(names.prefix(thread)))


def uploads(bench: Workbench) -> list[Any]:
    with bench.state.database.read() as connection:
        return list(connection.execute(sa.select(bench.state.models.uploads)).all())
