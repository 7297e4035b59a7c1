"""``flask chat …`` (contract C42)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import redis
from flask import current_app
from flask.cli import AppGroup

from .config import parse_origins
from .doctor import Patient, examine
from .errors import ChatError, ConfigurationError, DatabaseError, NotClosed, NotFound
from .install_migrations import install
from .service.audit import Trace
from .service.lookup import find
from .state import current
from .worker import run

chat_cli = AppGroup("chat", help="The request chat: migrations, worker, purges.")


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, NotFound) as error:
        raise click.ClickException(str(error)) from None


@chat_cli.command("install-migrations")
def install_migrations() -> None:
    """Write the chat's revisions into this application's migrations folder."""
    written = install(current_app, current().models)
    for path in written:
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        click.echo(f"Wrote {shown}")
    click.echo("Now run `flask db upgrade`." if written else "Nothing to do: every revision is there.")


@chat_cli.command("worker")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads that run tasks.")
def worker(workers: int) -> None:
    """Run the tasks that erase closed chats, until SIGINT or SIGTERM."""
    state = current()
    if state.tasks.huey.immediate:
        raise ConfigurationError(
            "The queue runs tasks inside the web process (CHAT_QUEUE_URL=memory:// or an immediate Huey), so there is"
            " nothing for a worker to do."
        )
    with _plain_errors():
        waiting = len(state.purges.due())
    state.tasks.prepare()
    click.echo(f"Chat worker ready, {waiting} purge(s) due.")
    run(state.tasks.huey, workers)


@chat_cli.command("purge")
@click.option("--thread", type=click.IntRange(1), help="Only this thread, whenever its next attempt is.")
@click.option("--request", "request_id", help="Only the chat of this request, likewise.")
@click.option("--dry-run", is_flag=True, help="Only say which purges are due.")
def purge(thread: int | None, request_id: str | None, dry_run: bool) -> None:
    """Attempt every purge that is due, here and now."""
    state = current()
    key = state.models.request_key.parse(request_id) if request_id is not None else None
    if request_id is not None and key is None:
        raise click.ClickException(f"{request_id!r} is no id of a {state.models.request_model.__name__}.")
    failed = 0
    with _plain_errors():
        named = thread is not None or key is not None
        due = state.purges.unsettled(thread, key) if named else state.purges.due()
        if dry_run:
            click.echo("\n".join(f"thread {candidate} is due" for candidate in due) or "Nothing is due.")
            return
        with click.progressbar(due, label="Purging") as bar:
            for candidate in bar:
                failed += not state.purges.run(candidate, early=named)
    click.echo(f"{len(due) - failed} of {len(due)} purged.")
    if failed:
        raise click.ClickException(f"{failed} purge(s) failed or are another worker's; the log says why.")


@chat_cli.command("forget")
@click.option("--request", "request_id", help="The request whose chat's rows are deleted.")
@click.option("--user", "user_id", help="The user whose chats' rows are deleted.")
def forget(request_id: str | None, user_id: str | None) -> None:
    """Delete the rows of settled chats, so that a request or user can be deleted; receipts stay."""
    if (request_id is None) == (user_id is None):
        raise click.UsageError("Give either --request or --user.")
    state = current()
    models = state.models
    text, key, model = (
        (request_id, models.request_key, models.request_model)
        if request_id is not None
        else (user_id, models.user_key, models.user_model)
    )
    parsed = key.parse(text or "")
    with _plain_errors(), state.database.session() as session:
        subject = parsed is not None and find(session, model, parsed)
    if not subject:
        raise click.ClickException(f"There is no {model.__name__} {text!r}.")
    with _plain_errors():
        forgotten, kept = state.threads.forget(subject)
    click.echo(f"{forgotten} chat(s) forgotten.")
    if kept:
        raise click.ClickException(f"{kept} chat(s) stay: they are open or not purged yet. Close them, then try again.")


@chat_cli.command("receipt")
@click.argument("thread", required=False, type=click.IntRange(1), metavar="[ID]")
@click.option("--verify", "file", type=click.File("rb"), help="Check a receipt that was saved; - for standard input.")
def receipt(thread: int | None, file: Any) -> None:
    """Print the receipt of the closed chat with this thread ID, or check a saved one."""
    if (thread is None) == (file is None):
        raise click.UsageError("Give either a thread's ID or --verify FILE.")
    receipts = current().receipts
    if file is not None:
        try:
            saved = json.load(file)
        except ValueError:
            raise click.ClickException("This is no JSON.") from None
        if not isinstance(saved, dict) or not receipts.is_genuine(saved):
            raise click.ClickException(
                "This is no settled receipt, was changed, or was signed with another key than CHAT_RECEIPT_KEY."
            )
        click.echo(f"Thread {saved['threadId']} was erased, settled {saved['settledAt']}: the signature is good.")
        return
    with _plain_errors():
        try:
            click.echo(json.dumps(receipts.get(thread or 0), indent=2))
        except NotClosed:
            raise click.ClickException(f"Thread {thread} is not closed, or there is none.") from None


@chat_cli.command("audit")
@click.option("--thread", type=click.IntRange(1), help="Only this thread.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
def audit(thread: int | None, as_json: bool) -> None:
    """Look for anything that is left of erased chats, in database, storage, key store, Redis and queue."""
    examiner = current().audit
    traces: list[Trace] = []
    try:
        erased = [one for one in examiner.threads() if thread in (None, one)]
        with click.progressbar(erased, label="Looking", file=sys.stderr, hidden=as_json) as bar:
            for one in bar:
                traces += examiner.of_thread(one)
        traces += examiner.elsewhere(set(erased))
    except (ChatError, redis.RedisError) as error:
        said = str(error) if isinstance(error, ChatError) else type(error).__name__
        raise click.ClickException(f"Not everything could be looked at: {said}.") from None
    if as_json:
        found = [asdict(trace) for trace in traces]
        click.echo(json.dumps({"ok": not traces, "threads": len(erased), "traces": found}, indent=2))
    else:
        for trace in traces:
            click.echo(f"{trace.place}: thread {trace.thread_id or '?'}: {trace.what}")
        click.echo(f"{len(erased)} erased chat(s) examined, {len(traces)} trace(s) found.")
    if traces:
        raise click.exceptions.Exit(1)


@chat_cli.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of lines.")
@click.option("--fix", is_flag=True, help="Make Azure's container and its account's CORS rule where they are missing.")
@click.option("--origin", "origins", multiple=True, help="Pages that upload photos, https://…; CHAT_TRUSTED_ORIGINS.")
def doctor(as_json: bool, fix: bool, origins: tuple[str, ...]) -> None:
    """Examine settings, database, migrations, transport, queue, purges and storage; say what to do next."""
    app: Any = current_app._get_current_object()
    state = current()
    findings = examine(Patient(state, app, parse_origins(origins or state.config.trusted_origins), fix))
    ok = not any(finding.status == "error" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": ok, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.status:8}{finding.check}: {finding.message} {finding.next}".rstrip())
    if not ok:
        raise click.exceptions.Exit(1)
