"""Live items stand under all that they are: an owner may have signed several requests under one nonce."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keeper.store.journal import decode_item, item_key

revision = "0003"
down_revision = "0002"

_LIVE = sa.table("live_items", sa.column("key", sa.LargeBinary), sa.column("item", sa.LargeBinary))


def upgrade() -> None:
    connection = op.get_bind()
    for key, item in connection.execute(sa.select(_LIVE.c.key, _LIVE.c.item).distinct()).all():
        connection.execute(sa.update(_LIVE).where(_LIVE.c.key == key).values(key=item_key(decode_item(item))))


def downgrade() -> None:
    """Nothing: who reads the shorter keys reads these."""
