"""Receipts: what they say at every stage, who may read them, and that they cannot be forged."""

from __future__ import annotations

import base64
import errno
import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key

from nursecare_chat.errors import ConfigurationError, StorageUnavailable
from nursecare_chat.receipt_key import ReceiptKey
from nursecare_chat.service.receipts import canonical
from nursecare_chat.storage.base import Retention
from nursecare_chat.testing import advance

from ..support.hosts import Api, Workbench
from ..support.photos import issue, post, put, upload

KEYS = {
    "threadId", "requestId", "state", "closedAt", "purgedAt", "settledAt", "attempts", "rowsRedacted", "blobsFound",
    "blobsDeleted", "listing", "recoverableUntil", "reason", "signature",
}  # fmt: skip
PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def receipt(api: Api, thread: int) -> dict[str, Any]:
    answer = api.call("GET", f"/api/chat/threads/{thread}/receipt")
    assert answer.status_code == 200, answer.data
    shown: dict[str, Any] = answer.get_json()
    assert set(shown) == KEYS
    return shown


def genuine(api: Api, shown: dict[str, Any]) -> bool:
    """As an auditor checks it, with what the contract and the OpenAPI document say and nothing of ours."""
    answer = api.call("GET", "/api/chat/receipt-key").get_json()
    key: Any = load_pem_public_key(answer["publicKey"].encode())
    unsigned = {name: value for name, value in shown.items() if name != "signature"}
    text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        key.verify(base64.b64decode(shown["signature"]), text.encode())
    except Exception:
        return False
    return answer["algorithm"] == "Ed25519"


def test_before_and_after(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C40: 404 before the close; then settled and signed at once where nothing was uploaded; no content."""
    refused = client_api.call("GET", f"/api/chat/threads/{thread}/receipt")
    assert (refused.status_code, refused.get_json()["code"]) == (404, "not_closed")
    client_api.say(thread, "canary")
    client_api.say(thread, "canary")
    client_api.close(thread)
    shown = receipt(admin_api, thread)
    assert (shown["threadId"], shown["state"], shown["attempts"], shown["rowsRedacted"]) == (thread, "settled", 1, 2)
    assert (shown["blobsFound"], shown["blobsDeleted"], shown["listing"]) == (0, 0, [])
    assert shown["closedAt"] <= shown["purgedAt"] <= shown["settledAt"]
    postgresql = bench.state.database.dialect == "postgresql"
    assert shown["recoverableUntil"] == ("unknown" if postgresql else "never")
    assert shown["reason"] == ("database_wal_and_backups" if postgresql else None)
    assert "canary" not in json.dumps(shown)
    assert genuine(client_api, shown)
    for forged in ({"rowsRedacted": 3}, {"settledAt": "2020-01-01T00:00:00Z"}, {"threadId": 2}):
        assert not genuine(client_api, shown | forged)


def test_who_may_read_it(bench: Workbench, nurse_api: Api, client_api: Api, thread: int) -> None:
    """C11, C40: as the thread itself."""
    client_api.close(thread)
    for path in (f"/api/chat/threads/{thread}/receipt", "/api/chat/receipt-key"):
        assert bench.login(None).call("GET", path).status_code == 401
    assert nurse_api.call("GET", f"/api/chat/threads/{thread}/receipt").status_code == 403
    assert client_api.call("GET", "/api/chat/threads/99/receipt").status_code == 404


def test_final_behind_the_last_upload_only(bench: Workbench, client_api: Api, thread: int) -> None:
    """C39, C40: an address from before the close is used after the purge; the blob is gone before it is signed."""
    issued = issue(client_api, thread).get_json()
    post(client_api, thread, upload(client_api, thread))
    client_api.close(thread)
    shown = receipt(client_api, thread)
    assert (shown["state"], shown["signature"], shown["settledAt"]) == ("purged", None, None)
    assert (shown["blobsFound"], shown["blobsDeleted"], shown["listing"]) == (1, 1, [])
    assert put(client_api, issued) == 201
    advance(bench.app, 900 + 19 * 60)
    assert bench.state.purges.sweep() == 0
    for _ in range(3):
        advance(bench.app, 61)
        assert receipt(client_api, thread)["signature"] is None
        assert bench.state.purges.sweep() == 1
    shown = receipt(client_api, thread)
    assert (shown["state"], shown["blobsFound"], shown["blobsDeleted"]) == ("settled", 2, 2)
    assert genuine(client_api, shown)


class Refusing:
    """In place of the storage's deletion."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, prefix: str, progress: Any) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StorageUnavailable("AuthorizationPermissionMismatch", 403), "blocked"),
        (StorageUnavailable("BlobImmutableDueToPolicy", 409), "blocked"),
        (StorageUnavailable("ServerBusy", 503), "pending"),
        (StorageUnavailable("PermissionError", errno.EACCES), "blocked"),
        (OSError("no route"), "pending"),
    ],
    ids=str,
)
def test_no_receipt_for_what_is_left(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch, caplog: Any, error: Exception, state: str
) -> None:
    """C38, C40: a storage that refuses is said to, with an alert; it is tried on, and signed only when it is done."""
    bench = make_bench()
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    upload(api, thread)
    with monkeypatch.context() as patch:
        patch.setattr(bench.state.storage, "delete_prefix", Refusing(error))
        api.close(thread)
        shown = receipt(api, thread)
        assert (shown["state"], shown["signature"], shown["purgedAt"]) == (state, None, None)
        assert shown["reason"]
        assert shown["listing"] is None
        assert ("chat purge blocked" in caplog.text) == (state == "blocked")
        for seconds in (5, 30, 60, 120):
            advance(bench.app, seconds + 1)
            assert bench.state.purges.sweep() == 0
        assert receipt(api, thread)["state"] == ("blocked" if state == "blocked" else "stalled")
    advance(bench.app, 301)
    assert bench.state.purges.sweep() == 1
    assert (receipt(api, thread)["state"], receipt(api, thread)["listing"]) == ("purged", [])
    monkeypatch.setattr(bench.state.storage, "delete_prefix", Refusing(error))
    advance(bench.app, 40 * 60)
    assert bench.state.purges.sweep() == 0
    assert receipt(api, thread)["listing"] is None


@pytest.mark.parametrize(
    ("retention", "until", "reason"),
    [
        (Retention(7, "soft_delete"), "20", "soft_delete"),
        (Retention(None, "soft_delete_unknown/AuthorizationFailure"), "unknown", "soft_delete_unknown"),
        (Retention(), "never", None),
    ],
    ids=str,
)
def test_what_could_still_be_recovered(
    make_bench: Callable[..., Workbench],
    monkeypatch: pytest.MonkeyPatch,
    retention: Retention,
    until: str,
    reason: str | None,
) -> None:
    """C40: by the storage's soft delete: a time, or honestly unknown; nothing where there were no photos."""
    bench = make_bench()
    monkeypatch.setattr(bench.state.storage, "retention", lambda: retention)
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    post(api, thread, upload(api, thread))
    other = api.open(2).get_json()["threadId"]
    api.close(thread)
    api.close(other)
    advance(bench.app, 40 * 60)
    while bench.state.purges.sweep():
        advance(bench.app, 61)
    shown = receipt(api, thread)
    assert (shown["state"], shown["recoverableUntil"][: len(until)]) == ("settled", until)
    assert str(shown["reason"]).partition("/")[0] == str(reason)
    assert receipt(api, other)["recoverableUntil"] == "never"


def test_soft_delete_of_an_account(make_bench: Callable[..., Workbench], azure_accounts: Any) -> None:
    """C40: as the account says it, or refuses to."""
    storage: Any = make_bench(**azure_accounts.settings()).state.storage
    assert storage.retention() == Retention(0)
    kept = {"delete_retention_policy": type("Policy", (), {"enabled": True, "days": 9})()}
    client = type("Client", (), {"get_service_properties": lambda self: kept})()
    storage._service = type("Service", (), {"client": client})()
    assert storage.retention() == Retention(9, "soft_delete")

    def refuse(self: Any) -> Any:
        response = type("Response", (), {"status_code": 403, "reason": "no", "headers": {}})()
        raise HttpResponseError(response=response)

    client.__class__.get_service_properties = refuse
    assert storage.retention().days is None


def test_without_redaction(make_bench: Callable[..., Workbench]) -> None:
    """C5, C40: what stays is not said to be gone."""
    bench = make_bench(CHAT_REDACT_MESSAGES="no")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    api.say(thread, "stays")
    api.close(thread)
    assert (receipt(api, thread)["recoverableUntil"], receipt(api, thread)["reason"]) == ("unknown", "redaction_off")


@pytest.mark.parametrize(
    ("first", "later", "until"),
    [
        (Retention(7, "soft_delete"), Retention(), "20"),
        (Retention(None, "soft_delete_unknown"), Retention(7, "soft_delete"), "unknown"),
    ],
    ids=str,
)
def test_a_photo_that_was_refused_counts_too(
    make_bench: Callable[..., Workbench],
    monkeypatch: pytest.MonkeyPatch,
    first: Retention,
    later: Retention,
    until: str,
) -> None:
    """C40: soft delete has it all the same; and what an earlier look found is not forgotten."""
    bench = make_bench()
    kept = [first]
    monkeypatch.setattr(bench.state.storage, "retention", lambda: kept[0])
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    issued = issue(api, thread).get_json()
    put(api, issued)
    bench.state.storage.delete(issued["mediaPath"])
    api.close(thread)
    kept[0] = later
    advance(bench.app, 40 * 60)
    while bench.state.purges.sweep():
        advance(bench.app, 61)
    shown = receipt(api, thread)
    assert (shown["state"], shown["blobsFound"], shown["reason"]) == ("settled", 0, first.reason)
    assert shown["recoverableUntil"] > shown["closedAt"]
    assert shown["recoverableUntil"].startswith(until)


def test_photos_that_are_not_where_they_were(make_bench: Callable[..., Workbench]) -> None:
    """C40: another storage than the one they were posted to is empty, and proves nothing."""
    bench = make_bench()
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    post(api, thread, upload(api, thread))
    bench.state.storage.delete_prefix(f"chats/{thread}/")
    api.close(thread)
    assert (receipt(api, thread)["recoverableUntil"], receipt(api, thread)["reason"]) == (
        "unknown",
        "photos_not_found",
    )


# -- the key -----------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once(make_bench: Callable[..., Workbench]) -> None:
    """C5: in the instance folder, for its owner alone; every process has the same."""
    bench = make_bench()
    folder = bench.app.instance_path
    with ThreadPoolExecutor(20) as pool:
        made = pool.map(lambda _: ReceiptKey("", lambda: folder).public_pem(), range(20))
        assert {*made} == {bench.state.receipts.public_pem()}
    (file,) = Path(folder).glob("chat-receipt-key*")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["text", "one line", "file"])
def test_a_key_of_the_operators(make_bench: Callable[..., Workbench], tmp_path: Path, how: str) -> None:
    """C5: PEM text, also in one line, or a file."""
    file = tmp_path / "key.pem"
    file.write_text(PEM)
    setting = {"text": PEM, "one line": PEM.replace("\n", "\\n"), "file": file.as_uri()}[how]
    bench = make_bench(CHAT_RECEIPT_KEY=setting)
    made = subprocess.run(["openssl", "pkey", "-in", file, "-pubout"], capture_output=True, text=True, check=True)
    assert bench.state.receipts.public_pem() == made.stdout


@pytest.mark.parametrize("setting", ["nonsense", "file:///nowhere/key.pem", PEM[:-40]], ids=["text", "file", "part"])
def test_a_key_that_is_none(make_bench: Callable[..., Workbench], setting: str) -> None:
    """C5: stops the start, names the key, does not show it."""
    with pytest.raises(ConfigurationError, match="CHAT_RECEIPT_KEY") as raised:
        make_bench(CHAT_RECEIPT_KEY=setting)
    assert PEM.splitlines()[1] not in raised.value.message


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_command(make_bench: Callable[..., Workbench], tmp_path: Path) -> None:
    """C40, C42: prints it and checks it; each failure has a status and says what is wrong."""
    bench = make_bench()
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    run = bench.app.test_cli_runner().invoke
    refused = run(args=["chat", "receipt", str(thread)])
    assert (refused.exit_code, "not closed" in refused.output) == (1, True)
    api.close(thread)
    printed = run(args=["chat", "receipt", str(thread)])
    assert json.loads(printed.stdout) == receipt(api, thread)
    saved = tmp_path / "receipt.json"
    for text, status in (
        (printed.stdout, 0),
        (printed.stdout.replace('"rowsRedacted": 0', '"rowsRedacted": 1'), 1),
        (printed.stdout.replace('"settled"', '"purged"'), 1),
        ("{}", 1),
        ("[]", 1),
        ("nonsense", 1),
    ):
        saved.write_text(text)
        checked = run(args=["chat", "receipt", "--verify", str(saved)])
        assert checked.exit_code == status, checked.output
    assert run(args=["chat", "receipt"]).exit_code == 2
    with bench.app.app_context():
        bench.state.threads.forget(bench.host.db.session.get(bench.host.request_model, 1))
    assert json.loads(run(args=["chat", "receipt", str(thread)]).stdout)["state"] == "settled"


def test_a_signature_of_what_is_not_settled(make_bench: Callable[..., Workbench]) -> None:
    """C40: is none, though our key made it."""
    ours = make_bench().state.receipts
    for state, genuine_ in (("purged", False), ("settled", True)):
        shown = {"threadId": 1, "state": state}
        signature = base64.b64encode(ours._key.sign(canonical(shown))).decode()
        assert ours.is_genuine({**shown, "signature": signature}) is genuine_
