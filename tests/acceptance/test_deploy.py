"""The files of ``examples/deploy`` at work: a real nginx before a real gunicorn, and the worker as systemd runs it."""

from __future__ import annotations

import configparser
import json
import logging
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from playwright.sync_api import sync_playwright

from nursecare_chat import config

from ..support.browser import launch
from ..support.databases import Databases
from ..support.hosts import Workbench
from ..support.live import Live, Person
from ..support.nginx import Nginx
from ..support.pictures import JPEG
from ..support.servers import ROOT, Process, Server
from ..support.sse import Reader

DEPLOY = ROOT / "examples" / "deploy"
OPERATING = ROOT / "docs" / "operating.md"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MAX_IMAGE = 10_485_760
SETTINGS = {"WEB_CONCURRENCY": "1", "CHAT_STREAM_HEARTBEAT": "1"}


class Site:
    """The reference host as it is deployed."""

    def __init__(self, folder: Path, databases: Databases) -> None:
        self.live = Live("deployed", "reference", folder, databases, SETTINGS)
        self.upstream = self.live.server.url.removeprefix("http://")
        self._fronts: list[Nginx] = []
        self._people: list[Person] = []

    def front(self, **changes: str) -> Nginx:
        self._fronts.append(Nginx(self.upstream, **changes))
        return self._fronts[-1]

    def login(self, who: str, nginx: Nginx) -> Person:
        self._people.append(Person(nginx.url, who, nginx.tls))
        return self._people[-1]

    def close(self) -> None:
        for person in self._people:
            person.http.close()
        for nginx in self._fronts:
            nginx.close()
        self.live.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Site]:
    """One for all; every test takes a thread of its own."""
    site = Site(tmp_path_factory.mktemp("site"), databases)
    yield site
    site.close()


@pytest.fixture
def own_site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    """For a test that reloads, stops or reads it."""
    site = Site(tmp_path, databases)
    yield site
    site.close()


def issue(person: Person, thread: int, size: int) -> dict[str, Any]:
    body = {"contentType": "image/jpeg", "size": size}
    answer = person.http.post(f"/api/chat/threads/{thread}/uploads", json=body)
    assert answer.status_code == 200, answer.text
    issued: dict[str, Any] = answer.json()
    return issued


def send(nginx: Nginx, issued: dict[str, Any], data: bytes) -> httpx.Response:
    with nginx.client() as nobody:
        return nobody.request(issued["method"], issued["uploadUrl"], content=data, headers=issued["headers"])


# -- nginx -------------------------------------------------------------------------------------------------------------


def test_nginx_takes_the_site(site: Site) -> None:
    """C45: without an error and without a warning."""
    nginx = site.front()
    done = nginx.check()
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr + nginx.errors
    assert httpx.get(f"{nginx.plain_url}/a?b", follow_redirects=False).headers["Location"].startswith("https://")


def test_events_come_through_at_once_and_heartbeats_keep_the_stream(site: Site) -> None:
    """C29, C45: nothing waits in a buffer; a beat within the proxy's timeout keeps a silent stream, a later one not."""
    thread = site.live.new_thread()
    nginx, hasty = (site.front(**{"proxy_read_timeout 60s": f"proxy_read_timeout {s}"}) for s in ("3s", "500ms"))
    client, reader = site.login("client", nginx), site.login("admin", nginx).listen(thread).wait_open()
    cut = site.login("admin", hasty).listen(thread).wait_open()
    cut.wait_end(5)
    for number in range(1, 4):
        sent = time.monotonic()
        assert client.say(thread, "x").status_code == 200
        reader.wait(number)
        assert reader.last_byte_at - sent < 1
        time.sleep(0.2)
    time.sleep(7)
    assert not reader.ended.is_set()
    assert reader.parser.comments >= 5
    assert client.close(thread).status_code == 200
    assert [event.name for event in reader.wait_end()] == ["MessageCreated"] * 3 + ["ThreadClosed"]


def test_eight_streams_of_one_page(site: Site) -> None:
    """C29, C45: over HTTP/2 a browser is not limited to six connections, and its requests find a way beside them."""
    thread, nginx = site.live.new_thread(), site.front()
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.goto(f"{nginx.url}/login")
        page.get_by_label("E-mail").fill("client@nursecare.test")
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda url: "/login" not in url)
        seen = page.evaluate(
            """(thread) => Promise.race([new Promise((_, late) => setTimeout(late, 20000, "no place")), (async () => {
                const stream = `/api/chat/threads/${thread}/stream`;
                const sources = Array.from({length: 8}, () => new EventSource(stream));
                await Promise.all(sources.map((s) => new Promise((open) => { s.onopen = open; })));
                const heard = sources.map((s) => new Promise((seen) => {
                    s.addEventListener("MessageCreated", (event) => seen(JSON.parse(event.data).seq));
                }));
                const headers = {"Content-Type": "application/json"}, body = '{"type": "text", "text": "all of you"}';
                const path = `/api/chat/threads/${thread}/messages`;
                const answer = await fetch(path, {method: "POST", headers, body});
                await answer.json();
                const seqs = await Promise.all(heard);
                sources.forEach((s) => s.close());
                const entry = performance.getEntriesByName(new URL(path, location.href).href)[0];
                return {status: answer.status, seqs, protocol: entry.nextHopProtocol};
            })()])""",
            thread,
        )
        browser.close()
    assert seen == {"status": 200, "seqs": [1] * 8, "protocol": "h2"}


def test_photos_of_every_size(site: Site) -> None:
    """C24, C13: the largest passes, a byte more is the chat's 413, far more is nginx's in the same words; nothing of a
    photo is put into a temporary file."""
    thread, nginx = site.live.new_thread(), site.front(emerg="warn")
    client = site.login("client", nginx)
    largest = JPEG + bytes(MAX_IMAGE - len(JPEG))
    issued = issue(client, thread, MAX_IMAGE)
    assert send(nginx, issued, largest).status_code == 201
    body = {"type": "image", "mediaPath": issued["mediaPath"]}
    posted = client.http.post(f"/api/chat/threads/{thread}/messages", json=body)
    assert posted.status_code == 200, posted.text
    with nginx.client() as nobody:
        shown = nobody.get(posted.json()["media_url"])
    assert (shown.status_code, shown.headers["Content-Type"]) == (200, "image/jpeg")
    issued = issue(client, thread, MAX_IMAGE)
    for size in (MAX_IMAGE + 1, 13_000_000):
        refused = send(nginx, issued, bytes(size))
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    for size in (100_000, 2_000_000):
        refused = client.say(thread, "x" * size)
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert "client intended to send too large body" in nginx.errors
    assert "temporary file" not in nginx.errors


def test_the_site_is_its_own_origin(site: Site) -> None:
    """C14: the proxy hands on the host with its port, which the browser's Origin must be."""
    thread, nginx = site.live.new_thread(), site.front()
    client = site.login("client", nginx)
    for origin, status in ((nginx.url, 200), ("https://127.0.0.1", 403), ("https://elsewhere.example.org", 403)):
        client.http.headers["Origin"] = origin
        assert client.say(thread).status_code == status


def test_a_reload_loses_nothing(own_site: Site) -> None:
    """C30, C45: by SIGHUP, twice, under way: each post is answered, and each message comes once, in order."""
    thread, nginx = own_site.live.new_thread(), own_site.front()
    client, admin = own_site.login("client", nginx), own_site.login("admin", nginx)
    past: list[Any] = []
    reader, streams, said = admin.listen(thread, "0"), 1, 0
    deadline = time.monotonic() + 60

    def follow() -> list[str]:
        """As a browser does: again, with the last id, whenever a stream ends."""
        nonlocal reader, streams
        if reader.ended.is_set():
            past.extend(reader.events)
            reader, streams = admin.listen(thread, str(past[-1].id) if past else "0"), streams + 1
        return [event.json["text"] for event in [*past, *reader.events]]

    while said < 80 or streams < 3:
        assert time.monotonic() < deadline, own_site.live.server.output
        if said in (20, 50):
            own_site.live.server.signal(signal.SIGHUP)
        assert client.say(thread, str(said), clientMessageId=str(said)).status_code == 200
        said += 1
        follow()
        time.sleep(0.1)
    while follow() != [str(number) for number in range(said)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    reader.stop()


def test_a_server_that_is_away(own_site: Site) -> None:
    """C35, C12: a stream is told to come back, for a status would be final; all else gets the chat's own 503."""
    thread, nginx = own_site.live.new_thread(), own_site.front()
    client = own_site.login("client", nginx)
    open_one = client.listen(thread).wait_open()
    own_site.live.server.end()
    open_one.wait_end()
    for path in (f"/api/chat/threads/{thread}/stream", "/api/chat/stream"):
        stream = client.http.get(path)
        assert (stream.status_code, stream.text) == (200, "retry: 10000\n\n")
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-store"
    media = client.http.put("/api/chat/media/x", content=b"x")
    for answer in (client.say(thread), client.http.post("/api/requests/1/chat/open"), media):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["code"] == "unavailable"
    own_site.live.server = Server.again(own_site.live.server)
    assert client.say(thread).status_code == 200


def test_no_log_has_a_secret(own_site: Site) -> None:
    """C41: no signature, query or cookie is in gunicorn's or nginx's logs, of accesses or of errors."""
    thread, nginx = own_site.live.new_thread(), own_site.front()
    client = own_site.login("client", nginx)
    cookie = client.http.cookies["session"]
    addresses = []
    issued = issue(client, thread, len(JPEG))
    addresses.append(issued["uploadUrl"])
    assert send(nginx, issued, JPEG).status_code == 201
    body = {"type": "image", "mediaPath": issued["mediaPath"]}
    addresses.append(client.http.post(f"/api/chat/threads/{thread}/messages", json=body).json()["media_url"])
    too_large = issue(client, thread, len(JPEG))
    addresses.append(too_large["uploadUrl"])
    tokens = [address.rpartition("/")[2] for address in addresses]
    written = [*addresses, *(f"{nginx.url}//api/chat//media/{token}" for token in tokens)]
    written += [f"{nginx.url}/api/chat/medi%61/{token}?canary=1" for token in tokens]
    stream = client.http.build_request("GET", f"/api/chat/threads/{thread}/stream?lastEventId=0&canary=2")

    def everything() -> None:
        with nginx.client() as nobody:
            for path in written:
                assert nobody.get(path).status_code < 504
        assert send(nginx, too_large, bytes(12_000_000)).status_code == 413
        for path in (
            "/api/requests/1/chat/open?canary=3",
            "/api/chat/threads?canary=4&cursor=x",
            "/api/chat/x?canary=5",
        ):
            assert client.http.get(path, headers={"Referer": f"{nginx.url}/?canary=6"}).status_code < 504
        answer = client.http.send(stream, stream=True)
        next(answer.iter_raw())
        answer.close()

    everything()
    own_site.live.server.signal(signal.SIGTERM)
    own_site.live.server.popen.wait(20)
    everything()
    logs = {"gunicorn": own_site.live.server.output, "accesses": nginx.accesses, "errors": nginx.errors}
    for name in ("gunicorn", "accesses"):
        assert '"GET /api/chat/media/- HTTP/1.1" 200' in logs[name]
        assert f'"GET /api/chat/threads/{thread}/stream HTTP/1.1" 200' in logs[name]
    for log in logs.values():
        for secret in (*tokens, *(token[:40] for token in tokens), cookie, cookie[:30], "lastEventId", "canary"):
            assert secret not in log


# -- gunicorn ----------------------------------------------------------------------------------------------------------


def test_what_gunicorn_says_of_a_failed_request() -> None:
    """C41: its own error lines quote the address; the signature and the query are taken out, and nothing else."""
    discreet = runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))["Discreet"]()

    def said(message: str, *values: Any) -> str:
        record = logging.LogRecord("gunicorn.error", logging.ERROR, "", 0, message, values, None)
        assert discreet.filter(record)
        text: str = record.getMessage()
        return text

    assert said("Error handling request %s %s", "GET", "/api/chat/media/secret?x=1") == (
        "Error handling request GET /api/chat/media/-"
    )
    assert said("Error handling request %s", "/api/%63hat//media/secret") == "Error handling request /api/chat/media/-"
    assert said("Error handling request %s", "/a/stream?lastEventId=7") == "Error handling request /a/stream"
    assert said("Booting worker with pid: %s", 7) == "Booting worker with pid: 7"
    assert said("Listening at: %s (%s)", "http://127.0.0.1:8000", 1) == "Listening at: http://127.0.0.1:8000 (1)"


# -- systemd -----------------------------------------------------------------------------------------------------------

# Of systemd.unit, .service, .exec, .kill and .resource-control; a key that is misspelt is only warned about.
KNOWN = {
    "Unit": {"Description", "Wants", "After", "StartLimitIntervalSec"},
    "Install": {"WantedBy"},
    "Service": {
        *("Type", "User", "Group", "WorkingDirectory", "EnvironmentFile", "ExecStart", "ExecReload", "KillMode"),
        *("KillSignal", "TimeoutStopSec", "Restart", "RestartSec", "LimitNOFILE", "LimitCORE", "StateDirectory"),
        *("RuntimeDirectory", "Environment"),
        *("UMask", "NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem", "ProtectHome", "ProtectProc"),
        *("ProtectClock", "ProtectHostname", "ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "PrivateTmp", "PrivateDevices", "LockPersonality", "RestrictNamespaces"),
        *("RestrictRealtime", "RestrictSUIDSGID", "RestrictAddressFamilies", "SystemCallArchitectures"),
    },
}


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str
    parsed.read_string(path.read_text())
    return parsed


def command_of(path: Path) -> list[str]:
    """What systemd would start, with this environment's programs."""
    program, *arguments = shlex.split(unit(path)["Service"]["ExecStart"])
    assert program.startswith("/srv/nursecare/.venv/bin/")
    here = Path(sys.executable).parent / Path(program).name
    assert here.is_file()
    return [str(here), *arguments]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units(path: Path, tmp_path: Path) -> None:
    """C42: their keys are known, their programs are there, and systemd has nothing to say against them."""
    parsed = unit(path)
    assert {section: set(parsed[section]) - KNOWN[section] for section in parsed.sections()} == {
        "Unit": set(),
        "Service": set(),
        "Install": set(),
    }
    command_of(path)
    analyze = shutil.which("systemd-analyze")
    if analyze:
        moved = path.read_text().replace("/srv/nursecare/.venv/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / path.name).write_text(moved)
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(tmp_path / path.name)], capture_output=True, text=True
        )
        assert (done.returncode, [line for line in done.stderr.splitlines() if path.name in line]) == (0, [])


def test_descriptors_suffice() -> None:
    """C33: the limit of the web server's unit is above what a worker may hold: two for each stream, and some more."""
    settings = runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))
    limit = int(unit(DEPLOY / "systemd" / "nursecare.service")["Service"]["LimitNOFILE"])
    assert limit >= 2 * settings["worker_connections"] + 1000


def test_the_web_servers_command(own_site: Site) -> None:
    """C45: the tests' server is started with the unit's own words, on another port; streams do not hold its stop."""
    given = [word for word in command_of(DEPLOY / "systemd" / "nursecare.service")[1:] if not word.endswith(":app")]
    used = [part.decode() for part in Path(f"/proc/{own_site.live.server.popen.pid}/cmdline").read_bytes().split(b"\0")]
    assert " ".join(given) in " ".join(used)
    thread = own_site.live.new_thread()
    reader: Reader = own_site.live.login("client").listen(thread).wait_open()
    own_site.live.server.signal(signal.SIGTERM)
    assert own_site.live.server.popen.wait(12) == 0
    assert reader.parser.raw.endswith(b"\n\n")


def test_the_workers_command(own_site: Site, tmp_path: Path) -> None:
    """C42, C36: as the unit says, it erases what is closed, and ends at its KillSignal with status 0."""
    path = DEPLOY / "systemd" / "nursecare-chat-worker.service"
    bench = own_site.live.bench
    environment = {"NURSECARE_INSTANCE": str(tmp_path), "NURSECARE_DATABASE_URL": bench.url, "CHAT_ENABLED": "false"}
    worker = Process(command_of(path), tmp_path / "worker.log", environment)
    try:
        worker.wait_for("Chat worker ready")
        thread, client = own_site.live.new_thread(), own_site.live.login("client")
        client.say(thread)
        client.close(thread)
        worker.wait_for("chat thread purged")
        worker.signal(signal.Signals[unit(path)["Service"]["KillSignal"]])
        assert worker.popen.wait(20) == 0, worker.output
    finally:
        worker.end()


# -- what is written ---------------------------------------------------------------------------------------------------

KEYS = set(config._KEYS)


def environment() -> dict[str, str]:
    """Every line of ``environment.example``, also those behind a #."""
    lines = re.findall(r"^#?([A-Z_]+)=(.*)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert len(lines) == len(dict(lines))
    return dict(lines)


def test_the_environment_names_every_key() -> None:
    """C5: and no other; each value is accepted, and one behind a # is the default unless it has none."""
    given = {key: value for key, value in environment().items() if key.startswith("CHAT_")}
    assert set(given) == KEYS
    config.load({}, given)
    shown = re.findall(r"^#(CHAT_\w+)=(.*)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    for key, value in shown:
        default, parse = config._KEYS[key]
        assert default == "" or parse(value) == parse(default), key


def test_the_settings_in_the_documentation() -> None:
    """C5: one table has every key with its default, and the page names no key that does not exist."""
    text = OPERATING.read_text()
    rows = dict(re.findall(r"^\| `(CHAT_\w+)` \| (.*?) \|", text, re.MULTILINE))
    assert set(rows) == KEYS
    assert set(re.findall(r"\bCHAT_[A-Z_]*[A-Z]\b", text)) <= KEYS
    for key, shown in rows.items():
        default, parse = config._KEYS[key]
        assert parse(shown.strip("`") if shown != "empty" else "") == parse(default), key


def test_links() -> None:
    """C42: every link of the operator's page leads to a file or a heading."""
    text = OPERATING.read_text()
    headings = {
        re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        place, _, heading = link.partition("#")
        assert (OPERATING.parent / place).exists() if place else heading in headings, link


def test_the_query_for_alerts(make_bench: Callable[..., Workbench]) -> None:
    """C43, C36: what the page shows finds a close that nobody has erased, and nothing once it is."""
    (query,) = re.findall(r"```sql\n(.*?)```", OPERATING.read_text(), re.DOTALL)
    bench = make_bench("reference-postgresql", CHAT_QUEUE_URL="sqlite://")
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]

    def alerts() -> tuple[float, int]:
        with bench.state.database.read() as connection:
            oldest, stalled = connection.execute(sa.text(query)).one()
        return float(oldest), stalled

    client.close(thread)
    time.sleep(0.1)
    assert 0 < alerts()[0] < 60
    bench.state.purges.run(thread)
    assert alerts() == (0, 0)


def test_the_lifecycle_rule() -> None:
    """C37, C39: what the page shows for Azure is JSON, and covers the chat's prefix with its slash and nothing else."""
    (block,) = re.findall(r"```json\n(.*?)```", OPERATING.read_text(), re.DOTALL)
    (rule,) = json.loads(block)["rules"]
    assert rule["definition"]["filters"] == {"blobTypes": ["blockBlob"], "prefixMatch": ["nursecare-chat/chats/"]}
