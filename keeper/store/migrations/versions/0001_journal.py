"""The sign-once journal, live items, cuts, and the quorum batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "signed_batches",
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "signed_actions",
        sa.Column("account_id", sa.LargeBinary(32), nullable=False),
        sa.Column("chain_id", sa.String(20), nullable=False),
        sa.Column("nonce", sa.LargeBinary(32), nullable=False),
        sa.Column("action_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("deadline", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "chain_id", "nonce"),
    )
    op.create_table(
        "live_items",
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("account_id", sa.LargeBinary(32), nullable=False),
        sa.Column("item", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("key", "account_id"),
    )
    op.create_index("live_items_by_account", "live_items", ["account_id"])
    op.create_table(
        "cuts",
        sa.Column("chain_id", sa.String(20), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("signatures", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for table in ("batches", "cuts", "live_items", "signed_actions", "signed_batches"):
        op.drop_table(table)
