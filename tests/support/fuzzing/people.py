"""A host, and people who are really logged in there, each with something to say that others must not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..databases import Databases
from ..hosts import HOSTS, Api, Workbench

NOBODY = "nobody"
CLIENTS = ("client", "client2")
ADMINS = ("admin", "admin2")
EVERYBODY = (*CLIENTS, *ADMINS, "nurse", NOBODY)
CANARIES = {who: f"canary-that-{who}-said" for who in CLIENTS}
PASSWORD = "demo"


def hidden_from(who: str) -> list[str]:
    """The canaries that must not come to them; admins may read everything."""
    return [] if who in ADMINS else [canary for owner, canary in CANARIES.items() if owner != who]


class People:
    """
    :ivar clients: by whose they are, Werkzeug's with their cookies.
    """

    def __init__(self, host: str, folder: Path, databases: Databases) -> None:
        # An exception ends in our 500, as in production; what came out is noticed by its signal.
        self.bench = Workbench(HOSTS[host], folder, databases, {"PROPAGATE_EXCEPTIONS": False})
        self.clients: dict[str, Any] = {who: self.bench.app.test_client() for who in EVERYBODY}
        for who in EVERYBODY[:-1]:
            self.enter(who)
        for who in CLIENTS:
            assert self.speak(who, self.new_request(who)) == 200

    def enter(self, who: str) -> None:
        """By the host's own login."""
        given = {"email": f"{who}@nursecare.test", "password": PASSWORD}
        assert self.clients[who].post("/login", json=given).status_code == 200

    def change(self, who: str) -> None:
        """Out and in again, with another's login in between, in the same browser."""
        other = EVERYBODY[(EVERYBODY.index(who) + 1) % (len(EVERYBODY) - 1)]
        client = self.clients[who]
        client.post("/logout")
        for one in (other, who):
            client.post("/login", json={"email": f"{one}@nursecare.test", "password": PASSWORD})

    def new_request(self, who: str) -> Any:
        """Another request of theirs; its id as the path has it."""
        with self.bench.app.app_context():
            made = self.bench.host.new_request(who)
        return made if isinstance(made, int) else str(made)

    def speak(self, who: str, request: Any) -> int:
        """Their canary, into the chat of a request of theirs; the last answer's status."""
        api = Api([self.clients[who]], self.bench)
        opened = api.call("POST", f"/api/requests/{request}/chat/open")
        if opened.status_code != 200:
            return int(opened.status_code)
        return int(api.say(opened.get_json()["threadId"], CANARIES[who]).status_code)

    def show_document(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.clients["client"].get("/api/chat/openapi.json").get_json()
        return shown

    def close(self) -> None:
        self.bench.close()
