"""Orders of the signer's, still to be signed, and the fee that they accept."""

from __future__ import annotations

from keeper.attest.signing import new_nonce
from keeper.state.actions import Order
from keeper.state.batch import UNIT
from keeper.state.deployment import Deployment
from keeper.state.ids import ZERO_ADDRESS

from ._amounts import USD, Amount, exact
from ._base import AccountLike, AddressLike, ChainLike, InstrumentLike, address_of, instrument
from ._reads import Reads

ORDER_SECONDS = 240
"""How long an order is good for where nothing else is said."""


async def new_order(
    client: Reads,
    chain: ChainLike,
    asset: InstrumentLike,
    size: Amount,
    price: Amount,
    until: int,
    account: AccountLike,
    submitter: AddressLike | None,
) -> Order:
    """An order of the signer's, for a nonce never used before."""
    limit = exact(price, 18, "price", USD)
    return Order(
        client.account_id(account),
        instrument(asset),
        exact(size, 18, "size", "units", signed=True),
        limit,
        max_fee(await client.deployment(), limit),
        new_nonce(),
        await client.time(chain, until, "until"),
        ZERO_ADDRESS if submitter is None else address_of(submitter, "submitter"),
    )


def max_fee(deployment: Deployment, price: int) -> int:
    """What an order accepts as fee, USD 1e18 per unit: twice the deployment's rate at its price, since a seller may be
    paid more than its limit."""
    return 2 * -(-price * deployment.profile.fee_rate // UNIT)
