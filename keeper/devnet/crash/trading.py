"""Hundreds of trades: orders signed by both owners, a permit from the attestors, a match in one of the next blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keeper.attest.signing import LocalSigner, new_nonce, signed_order, trade_request
from keeper.chain.rpc import Rpc
from keeper.client import AsyncClient, Refused, Unavailable
from keeper.devnet.chains import account
from keeper.devnet.processes import DevnetError
from keeper.state.actions import Order
from keeper.state.batch import UNIT
from keeper.state.deployment import Deployment
from keeper.state.live import PermitItem

from .lanes import Call, Lane, together
from .scenario import GRAIN, Deal, Member

SUBMITTER = 57
"""Sends the matches: anyone may, and one key has one row of nonces."""
AT_ONCE = 8
"""Permits asked for at the same time: attestors judge them one after another anyway."""
_DEADLINE_SECONDS = 240
_MATCH_GAS = 900_000
_ATTEMPTS = 12
_WAIT_SECONDS = 1.0
_TIMEOUT_SECONDS = 30.0


@dataclass
class Traded:
    """How the trading went. Seconds, and gas of every match."""

    matches: int = 0
    retries: list[str] = field(default_factory=list)
    """Why a deal had to be asked for again."""
    seconds: float = 0.0
    permit_seconds: list[float] = field(default_factory=list)
    gas: list[int] = field(default_factory=list)


class Desk:
    """Makes deals. `nodes` are attestors' URLs, asked in turn: whose turn it is gets the request from the one asked."""

    def __init__(self, deployment: Deployment, rpcs: Mapping[int, Rpc], nodes: Sequence[str], keeper: str) -> None:
        self.deployment = deployment
        self.traded = Traded()
        self._nodes = list(nodes)
        self._client = AsyncClient.from_deployment(
            deployment, keeper, rpcs={c: rpc.url for c, rpc in rpcs.items()}, timeout=_TIMEOUT_SECONDS
        )
        self._lanes = {c: Lane(rpc, c, account(SUBMITTER).key) for c, rpc in rpcs.items()}
        self._asked = 0

    async def aclose(self) -> None:
        await self._client.aclose()

    async def trade_all(self, members: Sequence[Member], deals: Sequence[Deal], sizes: Sequence[int]) -> None:
        """Make every deal, so many at once; one that takes more margin than there is, at two thirds of its size.

        Raises:
            DevnetError: a deal was refused, or reverted, every time.
        """
        began = time.monotonic()
        waiting = asyncio.Semaphore(AT_ONCE)
        await together(self._made(members, deal, size, waiting) for deal, size in zip(deals, sizes, strict=True))
        self.traded.seconds = time.monotonic() - began

    async def _made(self, members: Sequence[Member], deal: Deal, size: int, waiting: asyncio.Semaphore) -> None:
        """Ask, and ask again with the same request where some may have signed it: until it is dead, another one finds
        its margin taken. A smaller one is asked for only where nobody signed."""
        reason = ""
        item: PermitItem | None = None
        for _ in range(_ATTEMPTS):
            try:
                async with waiting:
                    item = item or await self._request(members, deal, size)
                    call = await self._permitted(item)
                (receipt,) = await self._lanes[deal.chain_id].send([call])
                if int(receipt["status"], 16) == 1:
                    self.traded.matches += 1
                    self.traded.gas.append(int(receipt["gasUsed"], 16))
                    return
                reason = f"the match reverted: {receipt['transactionHash']}"
            except Unavailable as silent:
                reason = str(silent)
            except Refused as refused:
                reason = str(refused)
                # One attestor alone refuses before anybody else is asked; else it is said who refused.
                if "refusals" not in refused.problem.details:
                    item = None
                    if refused.code == "insufficient_free_margin" and members[deal.taker].role != "hedged":
                        size = smaller(size)
            self.traded.retries.append(reason)
            await asyncio.sleep(_WAIT_SECONDS)
        taker = members[deal.taker]
        raise DevnetError(
            f"{taker.role} 0x{taker.account_id.hex()} cannot trade {size / UNIT:g} of 0x{deal.asset.hex()} on chain "
            f"{deal.chain_id}: {reason}"
        )

    async def _request(self, members: Sequence[Member], deal: Deal, size: int) -> PermitItem:
        """A deal at the mark of the batch that its chain holds, with both owners' orders."""
        price = (await self._client.mark_proof(deal.asset, chain=deal.chain_id)).leaf.price
        deadline = await self._client.head_time(deal.chain_id) + _DEADLINE_SECONDS
        parties = (members[deal.maker], members[deal.taker])
        first, second = (
            Order(party.account_id, deal.asset, amount, price, price, new_nonce(), deadline)
            for party, amount in zip(parties, (-size, size), strict=True)
        )
        signed, countersigned = (
            signed_order(self.deployment, deal.chain_id, order, LocalSigner(account(party.owner).key))
            for party, order in zip(parties, (first, second), strict=True)
        )
        return trade_request(self.deployment, deal.chain_id, (first, second), (signed, countersigned), -size, price)

    async def _permitted(self, item: PermitItem) -> Call:
        """The match of a request that a quorum signs, with the mark as its chain holds it by then."""
        self._asked += 1
        began = time.monotonic()
        permit = await self._client.ask(item, node=self._nodes[self._asked % len(self._nodes)], attempts=1)
        self.traded.permit_seconds.append(time.monotonic() - began)
        match = await self._client.call_for(permit)
        return Call(match.to, match.data, _MATCH_GAS)


def smaller(size: int) -> int:
    """About two thirds, in thousandths of a unit."""
    less = max(GRAIN, abs(size) * 2 // 3 // GRAIN * GRAIN)
    return less if size > 0 else -less
