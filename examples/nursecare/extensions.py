"""The Flask extensions, without an application yet."""

from __future__ import annotations

from flask_login import LoginManager
from flask_migrate import Migrate

from nursecare_chat import Chat

login_manager = LoginManager()
migrate = Migrate()
chat = Chat()
