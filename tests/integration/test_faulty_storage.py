"""A blob storage that fails in the ways in which Azure's does, and the proxy that makes it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from nursecare_chat.errors import StorageUnavailable
from nursecare_chat.storage import names
from nursecare_chat.storage.azure import AzureStorage
from nursecare_chat.storage.azure_account import account_of

from ..support import azurite
from ..support.faulty import CUT, GONE, PAGE, STATUSES, Faulty, Request, blame, spoil
from ..support.hosts import Workbench
from ..support.photos import issue, post
from ..support.pictures import JPEG

PREFIX = names.prefix(12)


@pytest.fixture
def faulty(azure_accounts: azurite.Accounts) -> Iterator[Faulty]:
    proxy = Faulty(account_of(azure_accounts.connection_string, "", 900).url)
    yield proxy
    proxy.close()


@pytest.fixture
def storage(faulty: Faulty) -> AzureStorage:
    """A new container, by way of the proxy."""
    made = azurite.storage(faulty.connection_string, f"test-{uuid.uuid4().hex}")
    made.create()
    return made


def fill(storage: AzureStorage, count: int) -> None:
    for _ in range(count):
        storage.write(names.new_name(12, "image/jpeg"), JPEG)


def test_half_of_a_batch_fails(storage: AzureStorage, faulty: Faulty) -> None:
    """C37: the rest is deleted one by one, in the same attempt; it did fail, in an answer that says 202."""
    fill(storage, 9)
    with faulty.failing("503", share=0.5):
        assert storage.delete_prefix(PREFIX) == 9
    assert faulty.injected == {"503": 4}
    assert storage.listing(PREFIX) == []


@pytest.mark.parametrize("kind", ["403", "409", CUT, GONE, PAGE])
def test_a_deletion_that_fails_is_said(storage: AzureStorage, faulty: Faulty, kind: str) -> None:
    """C37, C38: never success, whether all of a batch's deletions fail or everything does; later it works."""
    fill(storage, 3)
    share = 1.0 if kind == "409" else 0.0
    with faulty.failing(kind, share=share), pytest.raises(StorageUnavailable) as raised:
        storage.delete_prefix(PREFIX)
    if kind in STATUSES:
        assert (raised.value.kind, raised.value.detail) == (STATUSES[kind], int(kind))
    assert storage.delete_prefix(PREFIX) == 3


def test_the_proxy_says_when_nothing_failed(storage: AzureStorage, faulty: Faulty) -> None:
    """C37: a fault that was not there proves nothing."""
    with pytest.raises(AssertionError, match="never failed with 500"), faulty.failing("500"):
        pass
    with pytest.raises(AssertionError, match="never failed"), faulty.failing("500", lambda request: request.deletes):
        fill(storage, 1)
    assert not faulty.injected


def test_what_is_spoilt_in_a_batch() -> None:
    """C37: as many as are to fail, in a body of the same length, and no other is blamed."""
    parts = [b"DELETE /c/%d HTTP/1.1\r\nAuthorization: SharedKey a:SIG%d\r\n\r\n" % (n, n) for n in range(8)]
    batch = b"".join(parts)
    for share, expected in ((0.5, 4), (1.0, 8), (0.25, 2)):
        spoilt, count = spoil(batch, share)
        assert (count, len(spoilt)) == (expected, len(batch))
        assert sum(part not in spoilt for part in parts) == expected
    answer = b"HTTP/1.1 202 Accepted\r\n\r\nHTTP/1.1 403 No\r\nx-ms-error-code: AuthorizationFailure\r\n\r\n"
    assert blame(answer, 409) == (
        b"HTTP/1.1 202 Accepted\r\n\r\nHTTP/1.1 409 Failed\r\nx-ms-error-code: BlobImmutableDueToPolicy\r\n\r\n"
    )
    assert Request("POST", "/a/c?comp=batch&restype=container").deletes
    assert not Request("POST", "/a/c?comp=list").deletes


def test_a_page_in_place_of_an_answer(storage: AzureStorage, faulty: Faulty) -> None:
    """C13, C37: what a proxy in between says with status 200 is a storage that is away, no bug and no empty list."""
    name = names.new_name(12, "image/jpeg")
    storage.write(name, JPEG)
    for ask in (lambda: storage.read(name, 9999), lambda: storage.listing(PREFIX), storage.canary, storage.retention):
        with faulty.failing(PAGE), pytest.raises(StorageUnavailable):
            ask()
    assert storage.listing(PREFIX) == [name]


def test_a_photo_is_posted_while_the_storage_answers_with_a_page(
    faulty: Faulty, make_bench: Callable[..., Workbench]
) -> None:
    """C13, C23, C25: 503 with ``Retry-After``; sent again it is one message."""
    bench = make_bench(
        "reference",
        CHAT_STORAGE_URL=f"azure://test-{uuid.uuid4().hex}",
        CHAT_AZURE_CONNECTION_STRING=faulty.connection_string,
    )
    bench.state.storage.create()
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    path = issue(client, thread, size=len(JPEG)).get_json()["mediaPath"]
    bench.state.storage.write(path, JPEG)
    with faulty.failing(PAGE):
        answer = post(client, thread, path, clientMessageId="1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    ids = {post(client, thread, path, clientMessageId="1").get_json()["id"] for _ in range(2)}
    assert [message["id"] for message in client.messages(thread).get_json()["messages"]] == [*ids]
