"""The reference host with a login as guides have it: in the request's own session."""

from __future__ import annotations

from flask import Flask
from sqlalchemy.orm import joinedload

from examples.nursecare import create_app as reference
from examples.nursecare.extensions import login_manager
from examples.nursecare.models import User, db

ROLE = (joinedload(User.role),)


def create_app() -> Flask:
    app = reference()
    login_manager.user_loader(load_user)
    return app


def load_user(user_id: str) -> User | None:
    return db.session.get(User, int(user_id), options=ROLE)
