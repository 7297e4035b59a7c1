"""gunicorn in production: greenlets carry the streams, and no log holds what an address signs or asks.

    gunicorn -c examples/deploy/gunicorn.conf.py wsgi:app

``docs/operating.md`` says why each value is what it is; the command line wins over this file.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any
from urllib.parse import unquote

from gunicorn.glogging import Logger

MEDIA = "/api/chat/media/"


def without_secrets(uri: str) -> str:
    """The address's path alone; what follows :data:`MEDIA` is a signature, however the path is written."""
    path = uri.partition("?")[0]
    return f"{MEDIA}-" if MEDIA in re.sub(r"/+", "/", unquote(path)) else path


class Discreet(logging.Filter):
    """Takes signatures and query strings out of what gunicorn says of a request that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = re.sub(r"/[^\s'\"]*", lambda found: without_secrets(found[0]), record.getMessage())
        record.msg, record.args = said, ()
        return True


class DiscreetLogger(Logger):
    """An access log that cannot be made to show query strings, signatures, cookies or referrers by any format."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        if not any(isinstance(known, Discreet) for known in self.error_log.filters):
            self.error_log.addFilter(Discreet())

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        path = without_secrets(environ["RAW_URI"])
        known = super().atoms(resp, req, environ, request_time)
        atoms = {name: value for name, value in known.items() if not name.startswith("{") and name not in "qf"}
        return atoms | {"U": path, "r": f"{atoms['m']} {path} {atoms['H']}"}


bind = "127.0.0.1:8000"  # nginx.conf's upstream
worker_class = "gevent"
workers = int(os.environ.get("WEB_CONCURRENCY", 2))  # about one a core
worker_connections = 4000  # requests of one worker, and streams while they are being opened

timeout = 30  # seconds in which a worker must show that it is alive; a stream may last for any time
graceful_timeout = 3  # an open stream would hold a stop for the default 30 s; it resumes elsewhere
keepalive = 5

limit_request_line = 4094  # the addresses of photos are signed: some 300 bytes
forwarded_allow_ips = "127.0.0.1,::1"  # who may say in X-Forwarded-Proto that the browser came by https

logger_class = DiscreetLogger
accesslog = "-"
errorlog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(B)s bytes %(M)s ms %(p)s'

control_socket_disable = True  # its default place is one for all of a user's servers
