"""Settlement prices and settlement entries that were signed; batches carry the inputs of their marks.

Batches of before have no inputs and cannot be read any more: they are dropped, what was signed is kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "signed_prices",
        sa.Column("asset", sa.LargeBinary(32), primary_key=True),
        sa.Column("price", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "settlement_entries",
        sa.Column("cycle", sa.Integer, nullable=False),
        sa.Column("account_id", sa.LargeBinary(32), nullable=False),
        sa.Column("chain_id", sa.String(20), nullable=False),
        sa.Column("delta", sa.String(80), nullable=False),
        sa.Column("until", sa.Integer, nullable=False),
        sa.Column("quorum", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("cycle", "account_id", "chain_id"),
    )
    op.execute("DELETE FROM batches")


def downgrade() -> None:
    for table in ("signed_prices", "settlement_entries"):
        op.drop_table(table)
