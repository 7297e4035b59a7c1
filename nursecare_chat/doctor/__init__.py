"""What is wrong with this installation, and what to do about it (contract C42); never a secret."""

from __future__ import annotations

import threading
import time

from ..errors import ChatError
from .findings import Check, Finding, Patient
from .services import database, images, keystore, migrations, purges, queue, receipts, transport
from .settings import settings
from .storage import storage

TIMEOUT = 10.0
"""Seconds in which every check must have answered; they run beside each other."""

REACH = "See that it runs and can be reached."

CHECKS: tuple[Check, ...] = (
    settings,
    database,
    migrations,
    transport,
    queue,
    purges,
    storage,
    keystore,
    receipts,
    images,
)


def examine(patient: Patient, checks: tuple[Check, ...] = CHECKS) -> list[Finding]:
    """Every check's findings, in order; one that breaks or hangs is an error of its own."""
    found: list[list[Finding]] = [[] for _ in checks]
    threads = [
        threading.Thread(target=_run, args=(patient, check, findings), daemon=True)
        for check, findings in zip(checks, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + TIMEOUT
    said: list[Finding] = []
    for check, thread, findings in zip(checks, threads, found, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        late = thread.is_alive()
        said += list(findings)
        if late:
            said.append(Finding(check.__name__, "error", f"No answer within {TIMEOUT:.0f} s.", REACH))
    return said


def _run(patient: Patient, check: Check, findings: list[Finding]) -> None:
    name = check.__name__
    try:
        with patient.app.app_context():
            for finding in check(patient):
                findings.append(finding)
    except ChatError as error:  # says kinds and codes only
        hint = getattr(error, "hint", "")
        findings.append(Finding(name, "error", f"{error}.", f"See to it: {hint}." if hint else REACH))
    except Exception as error:  # its words may hold a password
        findings.append(Finding(name, "error", f"{type(error).__name__}.", REACH))
