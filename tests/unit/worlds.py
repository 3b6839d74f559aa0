"""Small worlds for tests: three chains with USDC (6 decimals) and WETH (18), holdings set by hand, signed items.

Owners' and attestors' signatures are not part of these: what is tested is judged after they were checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from immutables import Map

from keeper.attest.permits import Context, Grant, Refusal, judge
from keeper.clearing.parting import after
from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel
from keeper.margin.owner import owner_book
from keeper.margin.parameter_file import default_parameters
from keeper.margin.report import AccountReport, evaluate
from keeper.margin.xpm import Xpm
from keeper.market.inputs import FundingInput, MarkInputs, UnderlyingInput
from keeper.market.marks import Marks
from keeper.state.actions import Action, Move, Order, Permit, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import ChainDeployment, Contracts, Deployment, Profile, Token
from keeper.state.ids import ZERO32, AccountId, Address, AssetId, account_id, perpetual
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.world import BlockRef, ChainState, MarginAccount, Reservation, World, component_of

A, B, C = 31337001, 31337002, 31337003
NOW = 1_800_000_000
ETH, BTC = perpetual("ETH"), perpetual("BTC")
USDC, WETH = Address(b"\x05" * 20), Address(b"\xe7" * 20)
INTEGRATOR = Address(b"\x11" * 20)
OWNER, OTHER, MAKER, STRANGER = (account_id(bytes([n]) * 20) for n in (0xA1, 0xB2, 0xC3, 0xD4))

# Without history: initial margins of linear books are then round numbers, and everything is quick.
PARAMETERS = replace(default_parameters(), returns=None)

SUB = account_id(bytes([0xA1]) * 20, 1)
"""An isolated sub-account of OWNER."""

_nonces = count(1)


def usd(amount: float) -> int:
    """USD to 1e18, exact to 1e-6."""
    return round(amount * 10**6) * 10**12


def units(size: float) -> int:
    return usd(size)


def usdc(amount: float) -> int:
    return round(amount * 10**6)


def make_deployment(underlyings: Sequence[str] = ("BTC", "ETH"), profile: Profile | None = None) -> Deployment:
    contracts = Contracts(*(Address(bytes([n]) * 20) for n in range(1, 7)))
    chains = {
        chain_id: ChainDeployment(
            chain_id=chain_id,
            name=name,
            rpc="http://127.0.0.1:0",
            block_seconds=1.0,
            deploy_block=0,
            contracts=contracts,
            settlement=Token("USDC", USDC, 6),
            collateral=(Token("WETH", WETH, 18, "ETH"),),
            feeds={symbol: Address(bytes([0x70 + n]) * 20) for n, symbol in enumerate((*underlyings, "USDC"))},
        )
        for chain_id, name in ((A, "A"), (B, "B"), (C, "C"))
    }
    return Deployment("Cross Margin", "1", bytes(32), PARAMETERS.hash(), (), 3, 1, profile or Profile(), chains)


def crowded(volume: int, rate: int = 500) -> Xpm:
    """The model of a market that absorbs only so many USD a day, so that small books pay for concentration."""
    narrow = {name: replace(each, daily_volume=volume) for name, each in PARAMETERS.underlyings.items()}
    charges = replace(PARAMETERS.contingencies, concentration=rate)
    return Xpm(replace(PARAMETERS, underlyings=narrow, contingencies=charges), LISTING)


DEPLOYMENT = make_deployment()
LISTING = Listing.of(DEPLOYMENT)
MODEL = Xpm(PARAMETERS, LISTING)
FREE_TRADING = make_deployment(profile=replace(Profile(), fee_rate=0))
"""The same without trading fees, where they would blur the arithmetic."""


def marks(eth: float = 3000, btc: float = 60000) -> Marks:
    return Marks({"BTC": usd(btc), "ETH": usd(eth)})


def inputs(prices: Marks | None = None, time: int = NOW + 4, **changes: object) -> MarkInputs:
    """Inputs that give these prices, at `time`; no funding, nothing settled."""
    found = sorted((prices or marks()).prices.items())
    observed = tuple(UnderlyingInput(name, price, price) for name, price in found)
    funding = tuple(FundingInput(perpetual(name), 0) for name, _ in found)
    return replace(MarkInputs(time, observed, funding), **changes)  # type: ignore[arg-type]


@dataclass
class Chains:
    """A world under construction. Amounts in USD, units and whole tokens."""

    world: World = field(default_factory=dict)

    def __post_init__(self) -> None:
        block = BlockRef(100, bytes(32), bytes(32), NOW)
        fresh = {chain_id: ChainState(chain_id, block, held=usdc(10_000_000)) for chain_id in (A, B, C)}
        self.world = {**fresh, **self.world}

    def _change(self, chain_id: int, **fields: object) -> Chains:
        self.world = {**self.world, chain_id: replace(self.world[chain_id], **fields)}  # type: ignore[arg-type]
        return self

    def cash(self, account: AccountId, chain_id: int, amount: float) -> Chains:
        return self._change(chain_id, cash=self.world[chain_id].cash.set(account, usd(amount)))

    def size(self, account: AccountId, chain_id: int, size: float, asset: AssetId = ETH) -> Chains:
        sizes = self.world[chain_id].sizes
        own = {**sizes.get(account, Map()), asset: units(size)}
        own = {held: amount for held, amount in own.items() if amount}
        return self._change(chain_id, sizes=sizes.set(account, Map(own)))

    def weth(self, account: AccountId, chain_id: int, amount: float) -> Chains:
        balances = self.world[chain_id].balances
        return self._change(chain_id, balances=balances.set(account, Map({WETH: units(amount)})))

    def reserved(self, account: AccountId, chain_id: int, amount: float, until: int, cash_part: float = 0) -> Chains:
        entry = Reservation(usd(amount), usd(cash_part), until)
        return self._change(
            chain_id, reservations=self.world[chain_id].reservations.set(account, Map({INTEGRATOR: entry}))
        )

    def linked(self, account: AccountId, *groups: Sequence[int]) -> Chains:
        """Mutual links within each group."""
        for group in groups:
            for chain_id in group:
                self.link(account, chain_id, [other for other in group if other != chain_id])
        return self

    def link(self, account: AccountId, chain_id: int, others: Sequence[int]) -> Chains:
        return self._change(chain_id, links=self.world[chain_id].links.set(account, frozenset(others)))

    def time(self, chain_id: int, time: int) -> Chains:
        return self._change(chain_id, block=replace(self.world[chain_id].block, time=time))

    def used(self, item: PermitItem) -> Chains:
        state = self.world[item.chain_id]
        key = (item.permit.account_id, item.permit.nonce)
        return self._change(item.chain_id, used_nonces=state.used_nonces.set(key, item.permit.action_hash))

    def closed(self, account: AccountId, chain_id: int, size: float, asset: AssetId = ETH) -> Chains:
        return self._change(chain_id, closed=self.world[chain_id].closed.set((account, asset), units(size)))

    def held(self, chain_id: int, amount: float) -> Chains:
        return self._change(chain_id, held=usdc(amount))

    def filled(self, chain_id: int, order_hash: bytes, size: float) -> Chains:
        return self._change(chain_id, filled=self.world[chain_id].filled.set(order_hash, units(size)))

    def context(
        self,
        *prices: Marks,
        legs: Sequence[LegItem] = (),
        deployment: Deployment = DEPLOYMENT,
        model: MarginModel = MODEL,
    ) -> Context:
        judged = prices or (marks(),)
        return Context(self.world, judged, model, LISTING, deployment, model.parameters, tuple(legs))

    def account(self, account: AccountId = OWNER, chain_id: int = A) -> MarginAccount:
        return component_of(self.world, account, chain_id)

    def report(self, account: AccountId = OWNER, chain_id: int = A, prices: Marks | None = None) -> AccountReport:
        return report_of(self.world, account, chain_id, prices)


def permit(
    chain_id: int, action: Action, account: AccountId, counterparty: bytes = ZERO32, deadline: int = NOW + 60
) -> Permit:
    nonce = next(_nonces)
    return Permit(account, counterparty, nonce.to_bytes(32, "big"), nonce, deadline, 1)


def withdraw(
    amount: float, chain_id: int = A, account: AccountId = OWNER, token: Address = USDC, deadline: int = NOW + 60
) -> PermitItem:
    raw = usdc(amount) if token == USDC else units(amount)
    action = Withdraw(account, token, raw, Address(account[:20]))
    return PermitItem(chain_id, permit(chain_id, action, account, deadline=deadline), action, ())


def reserve(
    amount: float, chain_id: int = A, account: AccountId = OWNER, cash_part: float = 0, until: int = NOW + 3600
) -> PermitItem:
    action = Reserve(account, INTEGRATOR, usd(amount), usd(cash_part), until)
    return PermitItem(chain_id, permit(chain_id, action, account), action, ())


def trade(
    size: float,
    price: float = 3000,
    chain_id: int = A,
    account: AccountId = OWNER,
    maker: AccountId = MAKER,
    asset: AssetId = ETH,
    deadline: int = NOW + 60,
    order_size: float | None = None,
    order_hash: bytes | None = None,
) -> PermitItem:
    """`account` takes: it buys `size` where positive. The maker's side is the opposite."""
    number = next(_nonces)
    whole = abs(order_size or size)
    sign = 1 if size > 0 else -1
    orders = tuple(
        Order(owner, asset, units(side * whole), usd(price), usd(1000), number, NOW + 1000)
        for owner, side in ((maker, -sign), (account, sign))
    )
    hashes = (number.to_bytes(32, "little"), order_hash or (number + 2**64).to_bytes(32, "little"))
    action = Trade(*hashes, units(-size), usd(price))
    return PermitItem(chain_id, permit(chain_id, action, maker, account, deadline), action, (), orders)


def takeover(
    size: float, liquidated: AccountId = OTHER, chain_id: int = A, account: AccountId = OWNER, deadline: int = NOW + 20
) -> PermitItem:
    action = Takeover(account, liquidated, ETH, units(size))
    return PermitItem(chain_id, permit(chain_id, action, account, deadline=deadline), action, ())


def move(
    amount: float,
    asset: bytes = ZERO32,
    chain_id: int = A,
    source: AccountId = OWNER,
    target: AccountId = SUB,
    deadline: int = NOW + 60,
) -> PermitItem:
    """Of cash unless an asset is named; the target gets it."""
    action = Move(source, target, asset, usd(amount))
    return PermitItem(chain_id, permit(chain_id, action, source, target, deadline), action, ())


def unlink(there: int = B, chain_id: int = A, account: AccountId = OWNER, deadline: int = NOW + 60) -> PermitItem:
    action = Unlink(account, there)
    return PermitItem(chain_id, permit(chain_id, action, account, deadline=deadline), action, ())


def leg(
    close_limit: float,
    account: AccountId = OWNER,
    chain_id: int = A,
    mark: float = 3000,
    concession: float = 0,
    timestamp: int = NOW,
    asset: AssetId = ETH,
) -> LegItem:
    leaf = LiquidationLeaf(account, chain_id, asset, units(close_limit), usd(mark), usd(concession), timestamp)
    return LegItem(leaf, timestamp)


# --- what the contracts do ------------------------------------------------------------------------------------------


def executed(world: World, item: PermitItem, taken: LegItem | None = None, mark: int = 3000 * UNIT) -> World:
    """The world after a permit was executed; a takeover takes from the leg `taken` before its concession ripens.

    A position moves at `mark`.
    """
    action, chain_id = item.action, item.chain_id
    used = world[chain_id].used_nonces.set((item.permit.account_id, item.permit.nonce), item.permit.action_hash)
    world = _with(world, chain_id, used_nonces=used)
    if isinstance(action, Unlink):
        return after(world, item)
    if isinstance(action, Withdraw) and action.token == USDC:
        world = _with(world, chain_id, held=world[chain_id].held - action.amount)
        return paid(world, chain_id, action.account_id, -action.amount * 10**12)
    if isinstance(action, Withdraw):
        balances = world[chain_id].balances
        left = balances[action.account_id][action.token] - action.amount
        assert left >= 0, "the vault refuses"
        return _with(world, chain_id, balances=balances.set(action.account_id, Map({action.token: left})))
    if isinstance(action, Reserve):
        reservations = world[chain_id].reservations
        own = reservations.get(action.account_id, Map())
        old = own.get(action.integrator, Reservation(0, 0, 0))
        if world[chain_id].block.time > old.until:
            old = Reservation(0, 0, 0)
        new = Reservation(old.amount + action.amount, old.cash_part + action.cash_part, max(old.until, action.until))
        own = own.set(action.integrator, new)
        return _with(world, chain_id, reservations=reservations.set(action.account_id, own))
    if isinstance(action, Trade):
        maker, taker = item.orders
        buyer, seller = (maker, taker) if action.size > 0 else (taker, maker)
        fee = _ceil(_ceil(abs(action.size) * action.price, UNIT) * DEPLOYMENT.profile.fee_rate, UNIT)
        for order, order_hash in ((maker, action.maker_order), (taker, action.taker_order)):
            filled = world[chain_id].filled
            world = _with(world, chain_id, filled=filled.set(order_hash, filled.get(order_hash, 0) + abs(action.size)))
            world = paid(world, chain_id, order.account_id, -fee)
        return exchanged(
            world, chain_id, maker.asset, abs(action.size), action.price, buyer.account_id, seller.account_id
        )
    if isinstance(action, Move) and action.asset == ZERO32:
        world = paid(world, chain_id, action.source, -action.amount)
        return paid(world, chain_id, action.target, action.amount)
    if isinstance(action, Move):
        accounts = (action.target, action.source)
        buyer, seller = accounts if action.amount > 0 else accounts[::-1]
        return exchanged(world, chain_id, AssetId(action.asset), abs(action.amount), mark, buyer, seller)
    assert isinstance(action, Takeover)
    assert taken is not None
    return leg_filled(world, taken, action.size, 0, action.account_id)


def leg_filled(world: World, item: LegItem, size: int, concession: int, taker: AccountId = STRANGER) -> World:
    """The world after `taker` took `size` (1e18) of a leg, `concession` (USD 1e18 per unit) of it ripe."""
    leaf = item.leaf
    if not size:
        return world
    closed = world[leaf.chain_id].closed
    done = closed.get((leaf.account_id, leaf.asset), 0) + size
    position = world[leaf.chain_id].sizes[leaf.account_id][leaf.asset]
    assert done <= abs(leaf.close_limit), "the leg is exhausted"
    assert size <= abs(position), "more than the position"
    assert (position > 0) == (leaf.close_limit > 0), "another side"
    world = _with(world, leaf.chain_id, closed=closed.set((leaf.account_id, leaf.asset), done))
    fee = DEPLOYMENT.profile.flat_fee * size // abs(leaf.close_limit)
    world = paid(paid(world, leaf.chain_id, leaf.account_id, -fee), leaf.chain_id, taker, fee)
    long = leaf.close_limit > 0
    price = max(0, leaf.mark_price - concession) if long else leaf.mark_price + concession
    buyer, seller = (taker, leaf.account_id) if long else (leaf.account_id, taker)
    return exchanged(world, leaf.chain_id, leaf.asset, size, price, buyer, seller)


def exchanged(
    world: World, chain_id: int, asset: AssetId, size: int, price: int, buyer: AccountId, seller: AccountId
) -> World:
    """`size` bought at `price`: the buyer pays rounded up, the seller receives rounded down."""
    for account, change, cash in (
        (buyer, size, -_ceil(size * price, UNIT)),
        (seller, -size, size * price // UNIT),
    ):
        sizes = world[chain_id].sizes
        own = sizes.get(account, Map())
        own = own.set(asset, own.get(asset, 0) + change)
        own = own.delete(asset) if own[asset] == 0 else own
        world = paid(_with(world, chain_id, sizes=sizes.set(account, own)), chain_id, account, cash)
    return world


def paid(world: World, chain_id: int, account: AccountId, amount: int) -> World:
    cash = world[chain_id].cash
    return _with(world, chain_id, cash=cash.set(account, cash.get(account, 0) + amount))


def _with(world: World, chain_id: int, **fields: object) -> World:
    return {**world, chain_id: replace(world[chain_id], **fields)}  # type: ignore[arg-type]


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def report_of(
    world: World, account: AccountId, chain_id: int = A, prices: Marks | None = None, model: MarginModel = MODEL
) -> AccountReport:
    """The true figures of an account in a world, beside its owner's others."""
    at = prices or marks()
    return evaluate([owner_book(world, LISTING, component_of(world, account, chain_id), at, model)], at, model)[0]


def granted(item: PermitItem, live: Sequence[LiveItem], context: Context) -> Grant:
    verdict = judge(item, live, context)
    assert isinstance(verdict, Grant), verdict
    return verdict


def refused(item: PermitItem, live: Sequence[LiveItem], context: Context, code: str) -> Refusal:
    verdict = judge(item, live, context)
    assert isinstance(verdict, Refusal), verdict
    assert verdict.code == code, verdict
    return verdict


def dollars(value: int) -> float:
    return value / UNIT
