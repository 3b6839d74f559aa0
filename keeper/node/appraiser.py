"""What each open leg is worth to this node's liquidator at this moment, and why it does not bid for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from eth_utils.crypto import keccak

from keeper.chain.abi import decode_result, encode
from keeper.chain.rpc import Rpc, RpcError, RpcUnavailable, understood
from keeper.chain.transactions import Sender
from keeper.chain.uniswap import quotes
from keeper.clearing.bidding import (
    Bid,
    Candidate,
    Rule,
    affordable,
    choose,
    concession_now,
    hedged,
    impacts,
    open_size,
    sizes,
    sold,
)
from keeper.clearing.exposure import Exposure, live_effects, marked_assets
from keeper.clearing.sale import LOT
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import MarginModel
from keeper.margin.owner import owner_book
from keeper.margin.valuation import Valuation, ceil_usd
from keeper.market.marks import MarkError, Marks
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import ZERO32, AccountId, is_token, owner_of
from keeper.state.live import LiveItem
from keeper.state.world import World, component_of

from .view import ChainsView, NotReady

TAKE_GAS = 300_000
"""Of a take-over, until one was mined: more than the dearest."""
SALE_GAS = 700_000
"""Of what follows the take-over of a token: withdrawal, sale, deposit, and two approvals."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """One open leg. `concession` per unit now and `open_size` in 1e18; `bid` is None where nothing of it is possible,
    and `reason` says why there is no bid yet, empty where there is one."""

    leg: LiquidationLeaf
    open_size: int
    concession: int
    bid: Bid | None
    reason: str

    @property
    def ready(self) -> bool:
        return not self.reason

    @property
    def profit(self) -> int:
        return 0 if self.bid is None else self.bid.profit


@dataclass
class Appraiser:
    """Weighs legs for one account.

    `world` are the final blocks that attestors judge at, `marks` this node's own.
    """

    deployment: Deployment
    listing: Listing
    model: MarginModel
    view: ChainsView
    rule: Rule
    account: AccountId
    senders: Mapping[int, Sender]
    native_usd: Mapping[int, float]
    world: Callable[[], World]
    marks: Callable[[], Marks]
    gas_used: dict[int, int] = field(default_factory=dict)
    """What the dearest take-over so far used, by chain."""
    _fees: dict[int, tuple[int, int]] = field(default_factory=dict)
    _clocks: dict[int, tuple[int, int]] = field(default_factory=dict)

    async def appraise(
        self, chain_id: int, legs: Sequence[LiquidationLeaf], live: Sequence[LiveItem]
    ) -> list[Appraisal]:
        """Legs of the batch that a chain holds, those with nothing to take left out; the most profitable first.

        `live` are this account's own permits that may still execute, with the legs that they take from.

        Raises:
            RpcUnavailable, RpcError: the chain's provider does not say what gas costs, or when the clock started.
        """
        head = self.view.followers[chain_id].head
        found = [(leg, size) for leg in legs if (size := open_size(leg, head, self.listing)) > 0]
        if not found:
            return []
        clock = await self._clock(chain_id, head.posted_epoch)
        fee = await self._fee(chain_id, head.block.number)
        world = self.world()
        try:
            marks: Marks | None = self.marks()
        except NotReady:
            marks = None
        appraisals = []
        for leg, size in found:
            concession = concession_now(leg, head.block.time, clock, self.deployment.profile)
            candidates: list[Candidate] | str = self._barred(leg) or "no marks are known"
            if marks is not None and not self._barred(leg):
                candidates = await self._candidates(leg, size, world, marks, live)
            if isinstance(candidates, str):
                appraisals.append(Appraisal(leg, size, concession, None, candidates))
                continue
            gas = self._gas(leg, chain_id, fee)
            bid = choose(
                leg,
                candidates,
                gas,
                head.block.time,
                self.deployment.profile,
                self.rule,
                clock_start=clock,
                haste=self.haste(leg),
            )
            reason = "no size is affordable" if bid is None else bid.wait
            appraisals.append(Appraisal(leg, size, concession, bid, reason))
        return sorted(appraisals, key=lambda each: -each.profit)

    def haste(self, leg: LiquidationLeaf) -> float:
        """Between 0.5 and 1.5, by key and leg: so that bidders of one rule do not all come at once."""
        digest = keccak(owner_of(self.account) + leg.account_id + leg.asset + leg.auction_start.to_bytes(8, "big"))
        return 0.5 + int.from_bytes(digest[:4], "big") / 2**32

    def _barred(self, leg: LiquidationLeaf) -> str:
        if leg.account_id == self.account:
            return "the account is this liquidator's own"
        if leg.counterparty != ZERO32:
            return f"it names its taker, 0x{leg.counterparty.hex()}"
        return ""

    async def _candidates(
        self, leg: LiquidationLeaf, size: int, world: World, marks: Marks, live: Sequence[LiveItem]
    ) -> list[Candidate] | str:
        """What may be bid for and what it is worth, or why nothing may."""
        try:
            exposure, cash_counts = self._exposure(leg, world, marks, live)
        except (UnknownAsset, MarkError) as error:
            return str(error)
        mark = exposure.valuation.prices[leg.asset]
        worst = max(leg.mark_price, mark) if leg.close_limit > 0 else min(leg.mark_price, mark)
        token = is_token(leg.asset)
        scale = self.listing.collateral[leg.asset].scale if token else 1
        step = max(LOT, scale)
        # All of it, down to the token's unit: dust that is left pays no flat fee and so no further leg.
        whole = size // scale * scale
        possible = affordable(impacts(exposure, leg, worst, sizes(whole, step)), cash_counts)
        if not possible:
            before = exposure.keeping(()).bound()
            free = f"{before.free / UNIT:,.2f} USD free beside what is live"
            cash = f", {before.cash_left / UNIT:,.2f} USD net cash" if token else ""
            return f"no free margin for the smallest part: {free}{cash}"
        if token:
            return await self._sold(leg, [impact.size for impact in possible])
        alone = self._alone(exposure.valuation, leg)
        return [hedged(impact, leg, mark, alone, self.rule) for impact in possible]

    def _exposure(
        self, leg: LiquidationLeaf, world: World, marks: Marks, live: Sequence[LiveItem]
    ) -> tuple[Exposure, bool]:
        """The bidder's account at its final blocks, with its live permits, priced at its own marks; and whether its net
        cash must stay above zero, as it must where tokens are paid for (CM-21)."""
        account = component_of(world, self.account, leg.chain_id)
        book = owner_book(world, self.listing, account, marks, self.model)
        prices = {asset: (self.model.price(asset, marks),) for asset in marked_assets(live)}
        effects = [
            each.effect for each in live_effects(account, live, world, self.listing, self.deployment.profile, prices)
        ]
        assets = {*book.assets, leg.asset, *(asset for effect in effects for asset in effect.assets)}
        leaving = any(effect.settlement_out or effect.cash_part for effect in effects)
        cash_counts = is_token(leg.asset) or leaving or bool(book.cash_parts)
        return Exposure.of(book, effects, Valuation.of(marks, self.model, assets)), cash_counts

    def _alone(self, valuation: Valuation, leg: LiquidationLeaf) -> int:
        """Initial margin of one unit held alone, USD 1e18."""
        row = valuation.pnl[valuation.assets.index(leg.asset)]
        initial, _ = valuation.scenarios.requirements(row if leg.close_limit > 0 else -row)
        return ceil_usd(float(initial))

    async def _sold(self, leg: LiquidationLeaf, tried: Sequence[int]) -> list[Candidate] | str:
        """What the chain's pool pays for each size now."""
        chain = self.deployment.chains[leg.chain_id]
        if chain.swapper is None:
            return "there is no pool on this chain to sell it to"
        token = self.listing.collateral[leg.asset]
        try:
            quoted = await quotes(
                self._rpc(leg.chain_id), chain.swapper, token.token.address, [size // token.scale for size in tried]
            )
        except RpcError as error:
            return f"the pool does not buy it: {error}"
        scale = 10 ** (18 - chain.settlement.decimals)
        return [sold(size, leg, each.amount_out * scale) for size, each in zip(tried, quoted, strict=True)]

    def _gas(self, leg: LiquidationLeaf, chain_id: int, fee: int) -> int:
        """USD 1e18 until what is taken is hedged or sold; `fee` in wei per gas."""
        gas = self.gas_used.get(chain_id, TAKE_GAS) + (SALE_GAS if is_token(leg.asset) else 0)
        return round(gas * fee * self.native_usd[chain_id])

    async def _fee(self, chain_id: int, block: int) -> int:
        """Wei per gas, asked once a block."""
        known = self._fees.get(chain_id)
        if known is None or known[0] != block:
            known = self._fees[chain_id] = (block, await self.senders[chain_id].fee_per_gas())
        return known[1]

    async def _clock(self, chain_id: int, epoch: int) -> int:
        """When the chain starts auctions of the batch it holds at the earliest; asked once a batch."""
        known = self._clocks.get(chain_id)
        if known is None or known[0] != epoch:
            rpc, to = self._rpc(chain_id), self.deployment.chains[chain_id].contracts.verifier
            call = {"to": "0x" + to.hex(), "data": "0x" + encode("MarginVerifier", "held", []).hex()}
            with understood(rpc):
                answer = await rpc.call("eth_call", [call, "latest"])
                current, _ = decode_result("MarginVerifier", "held", bytes.fromhex(answer[2:]))
                held, resumed = int(current[0]), int(current[6])
            if held != epoch:
                raise RpcUnavailable(f"chain {chain_id} holds batch {held} by now, its head here {epoch}")
            known = self._clocks[chain_id] = (epoch, resumed)
        return known[1]

    def _rpc(self, chain_id: int) -> Rpc:
        return self.view.rpcs[chain_id]
