"""A real Azurite: named by ``TEST_AZURE_CONNECTION_STRING``, or installed from ``azurite/package-lock.json``."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

from nursecare_chat.storage.azure import AzureStorage
from nursecare_chat.storage.azure_account import Service, account_of

from . import npm
from .keeper import Kept
from .servers import free_port

FOLDER = npm.TOOLS / "azurite"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, the same everywhere and in its documentation."""


def installed() -> list[str]:
    """The command that starts Azurite; installed at the first call."""
    main = npm.installed("azurite") / "azurite" / "dist" / "src" / "blob" / "main.js"
    return [str(npm.node(FOLDER) / "node"), str(main)]


def storage(connection_string: str, container: str) -> AzureStorage:
    """The container as the application has it."""
    return AzureStorage(Service(account_of(connection_string, "", 900)), container)


class Server:
    """A server of our own on a free port, everything in memory.

    :param data: a folder to keep everything in instead.
    :raises AssertionError: with what the server said, if it does not start.
    """

    def __init__(self, *flags: str, scheme: str = "http", port: int | None = None, data: Path | None = None) -> None:
        command = installed()
        self.folder = Path(tempfile.mkdtemp(prefix="azurite-"))
        self.port = port or free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}/{ACCOUNT}"
        self._data = data
        options = ["--inMemoryPersistence"] if data is None else ["--location", str(data)]
        options += ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--silent", "--disableTelemetry", *flags]
        self._command = [*command, *options]
        self._start()

    def _start(self) -> None:
        self._kept = Kept(self._command, self.folder, env=npm.environment(FOLDER))
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(self.url, timeout=5, verify=False)
                return
            except httpx.TransportError:
                if self._kept.ended or time.monotonic() > deadline:
                    raise AssertionError(f"Azurite did not start: {self._kept.said}") from None
            time.sleep(0.05)

    @property
    def connection_string(self) -> str:
        scheme = self.url.partition(":")[0]
        return f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"

    def collect_garbage(self) -> None:
        """Start again an hour later: at its start it gives up deleted bytes, but none of the last ten minutes."""
        assert self._data is not None
        self._kept.signal(signal.SIGTERM)
        self._kept.wait()
        extents = self._data / "__azurite_db_blob_extent__.json"
        extents.write_text(re.sub(r'("LastModifyInMS":)\d+', r"\g<1>0", extents.read_text()))
        self._start()

    def close(self) -> None:
        self._kept.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class Accounts:
    """For one process of the test run: an account with containers to take; the server starts with the first."""

    def __init__(self) -> None:
        self._server: Server | None = None

    @property
    def connection_string(self) -> str:
        if named := os.environ.get("TEST_AZURE_CONNECTION_STRING"):
            return named
        if self._server is None:
            self._server = Server()
        return self._server.connection_string

    def settings(self) -> dict[str, Any]:
        """Those of a new container, which has yet to be made."""
        return {
            "CHAT_STORAGE_URL": f"azure://test-{uuid.uuid4().hex}",
            "CHAT_AZURE_CONNECTION_STRING": self.connection_string,
        }

    def forget_cors(self) -> None:
        """The rules are the account's, not a container's, so every test would find those of the one before it."""
        Service(account_of(self.connection_string, "", 900)).client.set_service_properties(cors=[])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
