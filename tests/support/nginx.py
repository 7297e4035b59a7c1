"""nginx with the site of ``examples/deploy``: named by ``NGINX``, the machine's, or, as root, the distribution's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from .keeper import Kept
from .servers import ROOT, free_port

SITE = ROOT / "examples" / "deploy" / "nginx.conf"
NAME = "nursecare.example.org"
MISSING = "No nginx: install nginx, or name its program in NGINX."

# What the distribution's nginx.conf has around a site; everything that is written stays in the folder.
AROUND = """
daemon off;
worker_processes 2;
{user}
pid {folder}/nginx.pid;
error_log {folder}/main-error.log warn;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;
    include {folder}/site.conf;
}}
"""


def _on_this_machine() -> str | None:
    return os.environ.get("NGINX") or shutil.which(
        "nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )


def program() -> str:
    """
    :raises AssertionError: saying what to install; a missing nginx fails the run.
    """
    found = _on_this_machine()
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx"]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = _on_this_machine()
    assert found, MISSING
    return found


def _certificate(folder: Path) -> None:
    """Signed by itself, for the site's name and this machine."""
    names = f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={NAME}", "-addext", names),
            *("-keyout", folder / "nursecare.key", "-out", folder / "nursecare.pem"),
        ],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr


class Nginx:
    """The site in front of ``upstream`` (``127.0.0.1:port``), on free ports, in a folder of its own under ``/tmp``.

    :param changes: further lines of the site to put in another's place; each must be there.
    :ivar tls: trusts the site's certificate.
    """

    def __init__(self, upstream: str, **changes: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nginx-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.port, self.plain_port = free_port(), free_port()
        self.url, self.plain_url = f"https://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.plain_port}"
        _certificate(self.folder)
        self.tls = ssl.create_default_context(cafile=str(self.folder / "nursecare.pem"))
        places = {
            r"server 127\.0\.0\.1:8000;": f"server {upstream};",
            r"listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            r"listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            r"listen \[::\]:.*;": "",
            r"/etc/nginx/tls/": f"{self.folder}/",
            r"/var/log/nginx/": f"{self.folder}/",
            **changes,
        }
        site = SITE.read_text()
        for pattern, instead in places.items():
            site, count = re.subn(pattern, instead, site)
            assert count, f"{pattern!r} is not in {SITE.name}"
        (self.folder / "site.conf").write_text(site)
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers, being nobody, could not write the logs
        (self.folder / "nginx.conf").write_text(AROUND.format(folder=self.folder, user=user))
        self.command = [program(), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        self.command += ["-e", str(self.folder / "main-error.log")]
        self._kept = Kept(self.command, self.folder, last=signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except OSError:
                if self._kept.ended or time.monotonic() > deadline:
                    raise AssertionError(f"nginx did not start: {self._kept.said}{self.errors}") from None
            time.sleep(0.02)

    def check(self) -> subprocess.CompletedProcess[str]:
        """``nginx -t``."""
        return subprocess.run([*self.command, "-t"], capture_output=True, text=True)

    def _logs(self, pattern: str) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(pattern)))

    @property
    def accesses(self) -> str:
        return self._logs("*access.log")

    @property
    def errors(self) -> str:
        return self._logs("*error.log")

    def client(self) -> httpx.Client:
        """Nobody's."""
        return httpx.Client(base_url=self.url, verify=self.tls, timeout=60)

    def close(self) -> None:
        self._kept.end()
        shutil.rmtree(self.folder, ignore_errors=True)
