"""The reference host with one more route, for what only the process itself can count."""

from __future__ import annotations

import gc
import threading
from typing import Any

from flask import Flask
from greenlet import greenlet

import examples.nursecare


def create_app() -> Flask:
    app = examples.nursecare.create_app()
    app.add_url_rule("/alive", view_func=alive)
    return app


def alive() -> dict[str, Any]:
    """Greenlets that have begun and not ended, and threads by their names; under gevent these are greenlets too."""
    gc.collect()
    return {
        "greenlets": sum(isinstance(one, greenlet) and not one.dead for one in gc.get_objects()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }
