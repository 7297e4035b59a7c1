"""The people and requests of the demo; everybody's password is ``demo``."""

from __future__ import annotations

from datetime import date, timedelta

import click
from flask.cli import with_appcontext

from .models import Role, ServiceRequest, User, db

PASSWORD = "demo"

USERS = (
    ("admin@nursecare.test", "Admin", "admin"),
    ("admin2@nursecare.test", "Admin 2", "admin"),
    ("client@nursecare.test", "Client", "client"),
    ("client2@nursecare.test", "Client 2", "client"),
    ("nurse@nursecare.test", "Nurse", None),
)
REQUESTS = (
    (1, "client@nursecare.test", "Wound dressing at home", "Change the dressing after surgery, left knee.", 1),
    (2, "client@nursecare.test", "Blood pressure check", "Weekly check, results to the family doctor.", 3),
    (3, "client2@nursecare.test", "Insulin injection", "Evening injection while my daughter is away.", 2),
)


def seed() -> bool:
    """Put the demo's rows in; ``False`` if they are there already."""
    if db.session.scalar(db.select(db.func.count()).select_from(User)):
        return False
    roles = {name: Role(name=name) for name in ("admin", "client")}
    users = {}
    for email, name, role in USERS:
        users[email] = User(email=email, name=name, role=roles.get(role or ""))
        users[email].set_password(PASSWORD)
    db.session.add_all([*roles.values(), *users.values()])
    db.session.flush()
    for _, email, title, details, days in REQUESTS:
        visit = date.today() + timedelta(days=days)
        # The database counts the ids: one that is given here would not advance PostgreSQL's sequence.
        db.session.add(ServiceRequest(client_id=users[email].id, title=title, details=details, visit_on=visit))
    db.session.commit()
    return True


@click.command("seed")
@with_appcontext
def seed_command() -> None:
    """Create the demo's users and requests, once."""
    click.echo("Seeded." if seed() else "Seeded already.")
