"""nginx with Nchan: what streams cost in C, where nobody logs in and nothing is stored. The floor, not a peer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.nginx import program

MODULE = Path(os.environ.get("NCHAN") or "/usr/lib/nginx/modules/ngx_nchan_module.so")
COMMAND = ("{program}", "-p", "{folder}", "-c", "{folder}/nginx.conf", "-e", "{folder}/error.log")
SITE = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
load_module {module};
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 19000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location = /login {{ return 200; }}
        location ~ ^/api/chat/threads/(\\d+)/stream$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 15;
        }}
        location ~ ^/api/chat/threads/(\\d+)/messages$ {{
            nchan_publisher;
            nchan_channel_id $1;
        }}
    }}
}}
"""


def missing() -> str:
    """What to install, if it is not there."""
    if not MODULE.exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "libnginx-mod-nchan"]
        subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "" if MODULE.exists() else "install nginx and libnginx-mod-nchan, or name the module in NCHAN"


def prepare(folder: Path, port: int) -> dict[str, str]:
    """Write the configuration; what the command needs."""
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(SITE.format(folder=folder, module=MODULE, user=user, port=port))
    return {"program": program(), "folder": str(folder)}
