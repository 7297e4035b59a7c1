"""nursecare_chat: chat tables

Written by `flask chat install-migrations`; the step itself is in nursecare_chat.migrations.

Revision ID: nursecare_chat_0001
Revises: 0001
"""

from alembic import op
import sqlalchemy as sa
from nursecare_chat.migrations import Host, Key
from nursecare_chat.migrations.versions import step_0001_chat_tables as step

revision = "nursecare_chat_0001"
down_revision = '0001'
branch_labels = None
depends_on = None

host = Host(
    users=Key('users', 'id', sa.Integer()),
    requests=Key('service_requests', 'id', sa.Integer()),
    schema=None,
)


def upgrade():
    step.upgrade(op, host)


def downgrade():
    step.downgrade(op, host)
