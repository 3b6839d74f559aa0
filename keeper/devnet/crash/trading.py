"""Hundreds of trades: orders signed by both owners, a permit from the attestors, a match in one of the next blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from keeper.attest.requests import order_digest
from keeper.attest.signatures import sign_digest
from keeper.chain.rpc import Rpc
from keeper.devnet.chains import account
from keeper.devnet.processes import DevnetError
from keeper.devnet.wallet import Signed, match_data, new_nonce, trade_item
from keeper.state.actions import Order
from keeper.state.batch import UNIT, MarkLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import AssetId
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import from_json, to_json

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


class NotTraded(Exception):
    """A deal that was refused; `code` names the rule, the message says why, `unsigned` that no attestor signed it."""

    def __init__(self, code: str, message: str, *, unsigned: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.unsigned = unsigned


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
        self._rpcs = rpcs
        self._nodes = list(nodes)
        self._keeper = keeper
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)
        self._lanes = {c: Lane(rpc, c, account(SUBMITTER).key) for c, rpc in rpcs.items()}
        self._asked = 0

    async def aclose(self) -> None:
        await self._http.aclose()

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
                    call = await self._permitted(deal.chain_id, item)
                (receipt,) = await self._lanes[deal.chain_id].send([call])
                if int(receipt["status"], 16) == 1:
                    self.traded.matches += 1
                    self.traded.gas.append(int(receipt["gasUsed"], 16))
                    return
                reason = f"the match reverted: {receipt['transactionHash']}"
            except NotTraded as refused:
                reason = str(refused)
                if refused.unsigned:
                    item = None
                if refused.unsigned and refused.code == "insufficient_free_margin":
                    size = size if members[deal.taker].role == "hedged" else smaller(size)
            self.traded.retries.append(reason)
            await asyncio.sleep(_WAIT_SECONDS)
        taker = members[deal.taker]
        raise DevnetError(
            f"{taker.role} 0x{taker.account_id.hex()} cannot trade {size / UNIT:g} of 0x{deal.asset.hex()} on chain "
            f"{deal.chain_id}: {reason}"
        )

    async def _request(self, members: Sequence[Member], deal: Deal, size: int) -> PermitItem:
        """A deal at the mark of the batch that its chain holds, with both owners' orders."""
        mark, _ = await self._mark(deal.chain_id, deal.asset)
        block = await self._rpcs[deal.chain_id].call("eth_getBlockByNumber", ["latest", False])
        deadline = int(block["timestamp"], 16) + _DEADLINE_SECONDS
        parties = (members[deal.maker], members[deal.taker])
        first, second = (
            Order(party.account_id, deal.asset, amount, mark.price, mark.price, new_nonce(), deadline)
            for party, amount in zip(parties, (-size, size), strict=True)
        )
        signed, countersigned = (
            sign_digest(order_digest(self.deployment, deal.chain_id, order), account(party.owner).key)
            for party, order in zip(parties, (first, second), strict=True)
        )
        orders, signatures = (first, second), (signed, countersigned)
        return trade_item(self.deployment, deal.chain_id, orders, signatures, -size, mark.price)

    async def _permitted(self, chain_id: int, item: PermitItem) -> Call:
        """The match of a request that a quorum signs, with the mark as its chain holds it by then."""
        answer = await self._permit(item)
        signed = Signed(from_json(PermitItem, answer["item"]), bytes.fromhex(answer["signatures"][2:]))
        mark, proof = await self._mark(chain_id, item.orders[0].asset)
        house = self.deployment.chains[chain_id].contracts.clearing_house
        return Call(house, match_data(signed, mark, proof), _MATCH_GAS)

    async def _mark(self, chain_id: int, asset: AssetId) -> tuple[MarkLeaf, list[bytes]]:
        answer = await self._ask("GET", f"{self._keeper}/v1/marks/0x{asset.hex()}/proof?chain={chain_id}")
        return from_json(MarkLeaf, answer["leaf"]), [bytes.fromhex(node[2:]) for node in answer["proof"]]

    async def _permit(self, item: PermitItem) -> Any:
        self._asked += 1
        began = time.monotonic()
        answer = await self._ask("POST", self._nodes[self._asked % len(self._nodes)] + "/v1/permits", to_json(item))
        self.traded.permit_seconds.append(time.monotonic() - began)
        return answer

    async def _ask(self, method: str, url: str, body: Any = None) -> Any:
        content = None if body is None else orjson.dumps(body)
        try:
            response = await self._http.request(
                method, url, content=content, headers={"content-type": "application/json"}
            )
            answer = orjson.loads(response.content)
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise NotTraded("no_answer", f"{url}: {error!r}") from None
        if response.status_code != httpx.codes.OK:
            # One attestor alone refuses before anybody else is asked; else it is said who refused.
            problem = Problem.from_json(answer)
            raise NotTraded(problem.code, problem.message, unsigned="refusals" not in problem.details)
        return answer


def smaller(size: int) -> int:
    """About two thirds, in thousandths of a unit."""
    less = max(GRAIN, abs(size) * 2 // 3 // GRAIN * GRAIN)
    return less if size > 0 else -less
