"""Writing thin revisions into the host's own Alembic history (contract C6)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from flask import Flask
from sqlalchemy.types import TypeEngine

from .errors import ConfigurationError
from .migrations import STEPS
from .models import TABLES, ChatModels

TEMPLATE = '''"""nursecare_chat: {title}

Written by `flask chat install-migrations`; the step itself is in nursecare_chat.migrations.

Revision ID: {revision}
Revises: {down_revision}
"""

{imports}
from nursecare_chat.migrations import Host, Key
from nursecare_chat.migrations.versions import step_{step} as step

revision = "{revision}"
down_revision = {down_revision!r}
branch_labels = None
depends_on = None

host = Host(
    users=Key({user_table!r}, {user_column!r}, {user_type}),
    requests=Key({request_table!r}, {request_column!r}, {request_type}),
    schema={schema!r},
)


def upgrade():
    step.upgrade(op, host)


def downgrade():
    step.downgrade(op, host)
'''


def revision_id(step: str) -> str:
    """Fixed, so that two branches of a host that both install have one revision; fits Alembic's 32 characters."""
    return f"nursecare_chat_{step.split('_', 1)[0]}"


def install(app: Flask, models: ChatModels) -> list[Path]:
    """Write what is missing on top of the host's head; the files written, none the second time.

    :raises ConfigurationError: if there is no Alembic folder, no single head, or nothing to refer to.
    """
    try:
        return _install(_script_directory(app), models)
    except (CommandError, KeyError) as error:  # Alembic raises KeyError for a revision that names a missing one
        raise ConfigurationError(f"Alembic cannot read the migrations folder: {error}") from None


def missing_steps(app: Flask) -> list[str]:
    """The chat's revisions that the host's migrations folder lacks.

    :raises ConfigurationError: if there is no folder that can be read.
    """
    try:
        return [revision_id(step) for step in _missing(_script_directory(app))]
    except (CommandError, KeyError):
        raise ConfigurationError("Alembic cannot read the migrations folder.") from None


def _missing(script: ScriptDirectory) -> list[str]:
    present = {revision.revision for revision in script.walk_revisions()}
    return [step for step in STEPS if revision_id(step) not in present]


def _install(script: ScriptDirectory, models: ChatModels) -> list[Path]:
    missing = _missing(script)
    if not missing:
        return []
    _refuse_own_tables(script)
    heads = script.get_heads()
    if len(heads) > 1:
        raise ConfigurationError(
            f"The migrations folder has {len(heads)} heads ({', '.join(heads)}); run `flask db merge heads` first."
        )
    users, requests = models.user_key.column.table.name, models.request_key.column.table.name
    if not heads:
        raise ConfigurationError(
            f"The migrations folder has no revision yet. The one that creates {users!r} and {requests!r} must come"
            f" first: run `flask db migrate`, delete the {TABLES[0][:5]}* tables from the revision that it writes, then"
            " run this again."
        )
    head, written = heads[0], []
    folder = Path(script.get_revision(head).path).parent
    for step in missing:
        path = folder / f"{revision_id(step)}_{step.split('_', 1)[1]}.py"
        path.write_text(_render(step, head, models), encoding="utf-8")
        written.append(path)
        head = revision_id(step)
    return written


def _script_directory(app: Flask) -> ScriptDirectory:
    migrate = app.extensions.get("migrate")
    if migrate is None:
        raise ConfigurationError("Flask-Migrate is not set up: call Migrate(app, db) first.")
    folder = Path(migrate.directory)
    if not folder.is_absolute():
        folder = Path.cwd() / folder
    if not (folder / "env.py").exists():
        raise ConfigurationError(f"There is no migrations folder at {folder}; run `flask db init` first.")
    return ScriptDirectory.from_config(migrate.migrate.get_config(migrate.directory))


def _refuse_own_tables(script: ScriptDirectory) -> None:
    """`flask db migrate` before this command would have put the chat's tables into a revision of the host's."""
    for revision in script.walk_revisions():
        source = Path(revision.path)
        text = source.read_text(encoding="utf-8")
        if re.search(rf"create_table\(\s*[\"']({'|'.join(TABLES)})[\"']", text):
            raise ConfigurationError(
                f"{source.name} creates chat tables itself. Delete the chat_* tables from it (after a `flask db"
                " downgrade` if it was applied), then run this again."
            )


def _render(step: str, down_revision: str, models: ChatModels) -> str:
    imports = {"from alembic import op"}
    user, request = models.user_key, models.request_key
    user_type, request_type = _render_type(user.type, imports), _render_type(request.type, imports)
    return TEMPLATE.format(
        title=step.split("_", 1)[1].replace("_", " "),
        step=step,
        revision=revision_id(step),
        down_revision=down_revision,
        imports="\n".join(sorted(imports)),
        schema=models.threads.schema,
        user_table=user.column.table.fullname,
        user_column=user.column.name,
        user_type=user_type,
        request_table=request.column.table.fullname,
        request_column=request.column.name,
        request_type=request_type,
    )


def _render_type(kind: TypeEngine[Any], imports: set[str]) -> str:
    """Python source for a column type, and what it needs imported; as Alembic's autogenerate does it."""
    variants = "".join(
        f".with_variant({_render_type(variant, imports)}, {dialect!r})"
        for dialect, variant in sorted(kind._variant_mapping.items())
    )
    module = type(kind).__module__
    if module.startswith("sqlalchemy.dialects."):
        dialect = module.split(".")[2]
        imports.add(f"from sqlalchemy.dialects import {dialect}")
        return f"{dialect}.{kind!r}{variants}"
    if module.startswith("sqlalchemy."):
        imports.add("import sqlalchemy as sa")
        return f"sa.{kind!r}{variants}"
    imports.add(f"import {module}")
    return f"{module}.{kind!r}{variants}"
