"""What owners and integrators import: a client of a node and of the chains behind it.

`AsyncClient` and `Client` have the same methods. Everything else here is what they take, give and raise.
"""

from __future__ import annotations

from keeper.attest.codec import to_abi
from keeper.attest.signing import LocalSigner, SignedPermit
from keeper.chain.abi import abi_of
from keeper.chain.transactions import Receipt
from keeper.state.actions import Move, Order, Reserve, Takeover, Unlink, Withdraw
from keeper.state.signer import Signer

from ._amounts import Amount
from ._answers import Proof
from ._async import AsyncClient
from ._base import AccountLike, AddressLike, ChainLike, InstrumentLike
from ._calls import match_call, withdraw_call
from ._draft import Call, Done, Draft, SignedOrder
from ._errors import (
    BadArgument,
    ClientError,
    NoSigner,
    Refused,
    Reverted,
    TransactionFailed,
    Unavailable,
    WrongChain,
)
from ._signers import SignerLike, read_keystore
from ._sync import Client

__all__ = [
    "AccountLike",
    "AddressLike",
    "Amount",
    "AsyncClient",
    "BadArgument",
    "Call",
    "ChainLike",
    "Client",
    "ClientError",
    "Done",
    "Draft",
    "InstrumentLike",
    "LocalSigner",
    "Move",
    "NoSigner",
    "Order",
    "Proof",
    "Receipt",
    "Refused",
    "Reserve",
    "Reverted",
    "SignedOrder",
    "SignedPermit",
    "Signer",
    "SignerLike",
    "Takeover",
    "TransactionFailed",
    "Unavailable",
    "Unlink",
    "Withdraw",
    "WrongChain",
    "abi_of",
    "match_call",
    "read_keystore",
    "to_abi",
    "withdraw_call",
]
