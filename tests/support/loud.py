"""The reference host with every logger at DEBUG and each record shown with all that it carries; it waits less.

But gunicorn's own, which at DEBUG is an access log.
"""

from __future__ import annotations

import logging
import sys

from flask import Flask

import examples.nursecare
from nursecare_chat.service import postgres, purges, sqlite

LOCKED = 0.5


class Everything(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname} {record.name} {super().format(record)} {record.__dict__}"


def create_app() -> Flask:
    sqlite.LOCK_TIMEOUT = postgres.LOCK_TIMEOUT = LOCKED
    purges.DELAYS = (1,) * len(purges.DELAYS)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Everything())
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    app = examples.nursecare.create_app()
    with app.app_context():
        engine = app.extensions["nursecare_chat"].database.engine  # which sets its own logger's level
    loggers = {"sqlalchemy", engine.logger.name, *logging.root.manager.loggerDict}
    for name in loggers:
        if not name.startswith("gunicorn"):
            logging.getLogger(name).setLevel(logging.DEBUG)
    return app
