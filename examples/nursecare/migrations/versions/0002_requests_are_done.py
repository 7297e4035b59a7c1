"""requests are done

Revision ID: 0002
Revises: nursecare_chat_0001
"""

from alembic import op
import sqlalchemy as sa

revision = "0002"
down_revision = "nursecare_chat_0001"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("service_requests", sa.Column("done", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade():
    op.drop_column("service_requests", "done")
