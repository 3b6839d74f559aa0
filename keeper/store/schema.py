"""The journal's tables."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, String, Table

metadata = MetaData()

signed_batches = Table(
    "signed_batches",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(32), nullable=False),
)
"""At most one batch per epoch, ever."""

signed_actions = Table(
    "signed_actions",
    metadata,
    Column("account_id", LargeBinary(32), nullable=False),
    Column("chain_id", String(20), nullable=False),
    Column("nonce", LargeBinary(32), nullable=False),
    Column("action_hash", LargeBinary(32), nullable=False),
    Column("deadline", Integer, nullable=False),
    PrimaryKeyConstraint("account_id", "chain_id", "nonce"),
)
"""At most one action per account, chain and nonce, ever."""

signed_prices = Table(
    "signed_prices",
    metadata,
    Column("asset", LargeBinary(32), primary_key=True),
    Column("price", LargeBinary(32), nullable=False),
)
"""At most one settlement price per instrument, ever."""

settlement_entries = Table(
    "settlement_entries",
    metadata,
    Column("cycle", Integer, nullable=False),
    Column("account_id", LargeBinary(32), nullable=False),
    Column("chain_id", String(20), nullable=False),
    Column("delta", String(80), nullable=False),
    Column("until", Integer, nullable=False),
    Column("quorum", Boolean, nullable=False),
    PrimaryKeyConstraint("cycle", "account_id", "chain_id"),
)
"""Settlement entries signed here or listed to us that are not final everywhere: every later batch carries them.

`until` is when the last batch that we signed with it can be posted no more; `quorum` whether a quorum's batch has it.
"""

live_items = Table(
    "live_items",
    metadata,
    Column("key", LargeBinary, nullable=False),
    Column("account_id", LargeBinary(32), nullable=False),
    Column("item", LargeBinary, nullable=False),
    PrimaryKeyConstraint("key", "account_id"),
)
"""Permits and legs signed here or listed to us, once per account they count against; dropped when dead or executed."""
Index("live_items_by_account", live_items.c.account_id)

cuts = Table(
    "cuts",
    metadata,
    Column("chain_id", String(20), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)
"""The newest final block of every chain that was signed: a cut never goes back."""

batches = Table(
    "batches",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("signatures", LargeBinary, nullable=False),
)
"""The newest quorum batches with all leaves, to serve proofs from."""
