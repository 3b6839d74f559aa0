"""CM-11 by a machine: whatever is asked, granted, executed late, reorganised or left to die, nobody is overdrawn.

Two accounts over three chains. Requests are judged at final blocks only (CM-10); what is granted executes at the heads,
in any order, as the contracts would; blocks become final, or are reorganised away with all that was executed in them,
and permits die when a final block is past their deadline (CM-12). Truth is the state of the heads.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from worlds import (
    BTC,
    ETH,
    LISTING,
    MAKER,
    MODEL,
    OTHER,
    OWNER,
    STRANGER,
    SUB,
    USDC,
    WETH,
    A,
    B,
    C,
    Chains,
    crowded,
    dollars,
    executed,
    leg,
    leg_filled,
    marks,
    move,
    report_of,
    reserve,
    takeover,
    trade,
    withdraw,
)

from keeper.attest.permits import Grant, is_live, judge
from keeper.margin.model import MarginModel
from keeper.margin.portfolio import portfolio
from keeper.margin.report import AccountReport
from keeper.market.marks import Marks
from keeper.state.actions import Reserve, Takeover, Withdraw
from keeper.state.ids import ZERO32, AccountId
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.world import ChainState, World, component_of

DUST = 10**13
"""1e-5 USD: figures are rounded to 1e-6, payments to 1e-18."""
KINDS = (
    "withdraw",
    "collateral",
    "reserve",
    "cash part",
    "trade",
    "make",
    "swap",
    "bitcoin",
    "takeover",
    "move",
    "move cash",
)
chain_ids = st.sampled_from([A, B, C])
parts = st.integers(1, 100).map(lambda n: n / 100)


class PermitMachine(RuleBasedStateMachine):
    """CM-11: equity stays at least initial margin, and settlement token leaves only against net cash (CM-21)."""

    prices: tuple[Marks, ...] = (marks(),)
    accounts: tuple[AccountId, ...] = (OWNER, OTHER)
    model: MarginModel = MODEL

    @initialize(
        sizes=st.tuples(*[st.integers(-30, 30)] * 6),
        tokens=st.tuples(*[st.integers(0, 20)] * 3),
        room=st.tuples(*[st.integers(0, 3000)] * 3),
        own_leg=st.booleans(),
    )
    def begin(
        self, sizes: tuple[int, ...], tokens: tuple[int, ...], room: tuple[int, ...], own_leg: bool = False
    ) -> None:
        """`room` is the free margin of each account at the worst marks; what there is too much of is left out."""
        chains = Chains().cash(MAKER, A, 9_000_000).cash(STRANGER, B, -60_000).size(STRANGER, B, 20)
        chains.linked(MAKER, (A, B, C)).linked(SUB, (A, B, C)).cash(SUB, A, 500)
        for n, account in enumerate(self.accounts):
            chains.linked(account, (A, B, C)).weth(account, A, tokens[n] / 10)
            chains.size(account, A, sizes[2 * n] / 10).size(account, B, sizes[2 * n + 1] / 10)
        for n, account in enumerate(self.accounts):
            worst = min(self.report(chains.world, account, prices).free for prices in self.prices)
            chains.cash(account, C, room[n] - dollars(worst))
        self.blocks: dict[int, list[ChainState]] = {chain_id: [state] for chain_id, state in chains.world.items()}
        self.legs: list[LegItem] = [leg(20, STRANGER, B, concession=42)]
        self.permits: list[PermitItem] = []
        self.asked: Counter[str] = Counter()
        self.granted: Counter[str] = Counter()
        self.executed: Counter[str] = Counter()
        self.kinds: dict[object, str] = {}
        if own_leg and sizes[1] > 0 and sizes[0] >= 0:
            # Listed when the account was worse off, and still live after its top-up.
            self.legs.append(leg(sizes[1] / 10, OWNER, B, concession=30))

    def report(self, world: World, account: AccountId, prices: Marks) -> AccountReport:
        return report_of(world, account, prices=prices, model=self.model)

    # --- the chains ----------------------------------------------------------------------------------------------

    @property
    def final(self) -> World:
        return {chain_id: blocks[0] for chain_id, blocks in self.blocks.items()}

    @property
    def head(self) -> World:
        return {chain_id: blocks[-1] for chain_id, blocks in self.blocks.items()}

    def now(self, chain_id: int) -> int:
        return self.blocks[chain_id][-1].block.time

    def mined(self, world: World, chain_id: int, seconds: int) -> None:
        """A further block of one chain, with that chain's state of `world`."""
        block = replace(world[chain_id].block, time=self.now(chain_id) + seconds)
        self.blocks[chain_id].append(replace(world[chain_id], block=block))

    @rule(chain_id=chain_ids, seconds=st.integers(1, 60))
    def time_passes(self, chain_id: int, seconds: int) -> None:
        self.mined(self.head, chain_id, seconds)

    @rule(chain_id=chain_ids, part=parts)
    def blocks_become_final(self, chain_id: int, part: float) -> None:
        blocks = self.blocks[chain_id]
        self.blocks[chain_id] = blocks[round((len(blocks) - 1) * part) :]

    @rule(chain_id=chain_ids, part=parts)
    def blocks_are_reorganised_away(self, chain_id: int, part: float) -> None:
        blocks = self.blocks[chain_id]
        self.blocks[chain_id] = blocks[: max(1, round(len(blocks) * (1 - part)))]

    # --- requests ------------------------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(KINDS),
        who=st.integers(0, 5),
        chain_id=chain_ids,
        part=parts,
        off=st.sampled_from([0, 0, -1, 1]),
        buys=st.booleans(),
        seconds=st.integers(5, 300),
    )
    def ask(self, kind: str, who: int, chain_id: int, part: float, off: int, buys: bool, seconds: int) -> None:
        """Of a size that free margin at final blocks would bear, were nothing else live."""
        account = self.accounts[who % len(self.accounts)]
        item = self.request(kind, account, chain_id, part, off, buys, self.now(chain_id) + seconds)
        context = replace(Chains(self.final).context(*self.prices, model=self.model), world=self.final)
        live: list[LiveItem] = [*self.permits, *self.legs]
        self.asked[kind] += 1
        if isinstance(judge(item, live, context), Grant):
            self.granted[kind] += 1
            self.kinds[item.key] = kind
            self.permits.append(item)

    def request(
        self, kind: str, account: AccountId, chain_id: int, part: float, off: int, buys: bool, deadline: int
    ) -> PermitItem:
        free = max(20.0, dollars(self.report(self.final, account, self.prices[0]).free))
        size, price = round(free * part / 600, 4) * (1 if buys else -1), 3000 + 15 * off
        if kind == "withdraw":
            return withdraw(round(free * part, 2), chain_id, account, deadline=deadline)
        if kind == "collateral":
            return withdraw(round(part, 3), A, account, token=WETH, deadline=self.now(A) + deadline % 100 + 1)
        if kind in ("reserve", "cash part"):
            cash_part = free * part / 2 if kind == "cash part" else 0
            item = reserve(round(free * part, 2), chain_id, account, round(cash_part, 2), until=deadline + 40)
            return replace(item, permit=replace(item.permit, deadline=deadline))
        if kind == "trade":
            return trade(size, price, chain_id, account, deadline=deadline)
        if kind == "make":
            return trade(size, price, chain_id, MAKER, maker=account, deadline=deadline)
        if kind == "swap":
            other = OWNER if account == OTHER else OTHER
            return trade(size, price, chain_id, account, maker=other, deadline=deadline)
        if kind == "bitcoin":
            return trade(round(size / 20, 5) or 0.001, price * 20, chain_id, account, asset=BTC, deadline=deadline)
        if kind == "move cash":
            # To the isolated sub-account, or back what it has.
            back = dollars(report_of(self.final, SUB, chain_id).free) * part
            pair = (OWNER, SUB) if buys or back < 1 else (SUB, OWNER)
            return move(round(free * part if pair[0] == OWNER else back, 2), ZERO32, chain_id, *pair, deadline)
        if kind == "move":
            return move(size, ETH, chain_id, deadline=deadline)
        end = max(entry.timestamp for entry in self.legs if entry.leaf.account_id == STRANGER) + 60
        return takeover(abs(size) or 0.01, STRANGER, B, account, deadline=min(self.now(B) + deadline % 100 + 1, end))

    @rule()
    def another_batch_lists_the_leg_again(self) -> None:
        closed = self.final[B].closed.get((STRANGER, ETH), 0)
        self.legs.append(leg(min(20.0, dollars(closed) + 5), STRANGER, B, concession=42, timestamp=self.now(B)))

    # --- execution -----------------------------------------------------------------------------------------------

    @rule(choice=st.integers(0, 1000))
    def execute(self, choice: int) -> None:
        """One of the granted permits, at a head within its deadline; what the contracts refuse changes nothing."""
        ready = [item for item in self.permits if self.executable(item)]
        if not ready:
            return
        item = ready[choice % len(ready)]
        before = report_of(self.head, item.permit.account_id)
        # A position moves at the mark that the chain holds: any that was judged.
        mark = self.prices[choice % len(self.prices)].prices["ETH"]
        world = executed(self.head, item, self.leg_for(item), mark)
        self.mined(world, item.chain_id, 1)
        self.executed[self.kinds[item.key]] += 1
        action = item.action
        if isinstance(action, Withdraw) and action.token == USDC:
            after = report_of(self.head, action.account_id)
            assert before.net_cash - after.net_cash == action.amount * 10**12
            held = portfolio(self.head, LISTING, component_of(self.head, action.account_id, A))
            for prices in self.prices:
                assert report_of(self.head, action.account_id, prices=prices).net_cash - held.cash_parts >= -DUST

    def executable(self, item: PermitItem) -> bool:
        state = self.head[item.chain_id]
        at = replace(state, block=replace(state.block, time=state.block.time + 1))
        if not is_live(item, {item.chain_id: at}):
            return False
        action = item.action
        if isinstance(action, Withdraw) and action.token == WETH:
            return state.balances[action.account_id].get(WETH, 0) >= action.amount
        if isinstance(action, Reserve):
            return action.until > state.block.time
        return not isinstance(action, Takeover) or self.leg_for(item) is not None

    def leg_for(self, item: PermitItem) -> LegItem | None:
        """The latest leg that may be filled with all of what a takeover takes."""
        action = item.action
        if not isinstance(action, Takeover):
            return None
        state = self.head[item.chain_id]
        left = state.sizes[STRANGER].get(ETH, 0)
        closed = state.closed.get((STRANGER, ETH), 0)
        for entry in reversed([entry for entry in self.legs if entry.leaf.account_id == STRANGER]):
            timely = state.block.time < entry.timestamp + 60
            if timely and action.size <= left and closed + action.size <= entry.leaf.close_limit:
                return entry
        return None

    @rule(part=parts, ripe=parts)
    def fill_the_owners_leg(self, part: float, ripe: float) -> None:
        for entry in self.legs:
            state = self.head[entry.leaf.chain_id]
            position = state.sizes.get(OWNER, {}).get(ETH, 0)
            if entry.leaf.account_id == OWNER and position > 0 and state.block.time < entry.timestamp + 60:
                left = min(position, entry.leaf.close_limit - state.closed.get((OWNER, ETH), 0))
                concession = int(entry.leaf.max_concession * ripe)
                self.mined(
                    leg_filled(self.head, entry, min(left, int(left * part)), concession), entry.leaf.chain_id, 1
                )
                self.executed["leg"] += 1

    # --- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_overdrawn(self) -> None:
        """CM-11: at the heads, where everything that was granted may have happened."""
        for account in {*self.accounts, MAKER, SUB}:
            for prices in self.prices:
                report = self.report(self.head, account, prices)
                assert report.free >= -DUST, (dollars(report.equity), dollars(report.initial_margin))

    def teardown(self) -> None:
        if hasattr(self, "asked") and self.asked:
            event(f"granted {10 * sum(self.granted.values()) // sum(self.asked.values()) * 10} % of requests")


class TwoMarksMachine(PermitMachine):
    """The same judged, and true, at two sets of marks: the last batch's, and one that has moved since."""

    prices = (marks(), marks(2940, 60_800))


_SETTINGS = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class OwnerMachine(PermitMachine):
    """An owner's cross account and its sub-account beside another's, in a market that absorbs 6,000 USD a day at 20 %:
    what one holds is charged to the other. Truth counts concentration over both."""

    accounts = (OWNER, SUB, OTHER)
    model = crowded(6_000, 2_000)


TestPermits = PermitMachine.TestCase
TestPermits.settings = _SETTINGS
TestPermitsAtTwoMarks = TwoMarksMachine.TestCase
TestPermitsAtTwoMarks.settings = _SETTINGS
TestPermitsOfOneOwner = OwnerMachine.TestCase
TestPermitsOfOneOwner.settings = settings(_SETTINGS, max_examples=60)


@pytest.mark.parametrize("kind_of_machine", [TwoMarksMachine, OwnerMachine])
def test_the_machine_grants_and_executes_every_kind(kind_of_machine: type[PermitMachine]) -> None:
    """CM-11: the machine says something only if it grants; here it is driven by a fixed generator, for longer."""
    random = Random(11)
    asked, granted, done = Counter[str](), Counter[str](), Counter[str]()
    for _ in range(30):
        machine = kind_of_machine()
        machine.begin((20, 10, -10, 0, 5, 0), (10, 5, 0), (2500, 2500, 2500), own_leg=random.random() < 0.2)
        for _ in range(40):
            chain_id, part = random.choice((A, B, C)), random.randint(1, 60) / 100
            for _ in range(2):
                machine.ask(
                    kind=random.choice(KINDS),
                    who=random.randint(0, 5),
                    chain_id=chain_id,
                    part=part,
                    off=random.choice((0, -1, 1)),
                    buys=random.random() < 0.5,
                    seconds=random.randint(5, 300),
                )
            machine.execute(choice=random.randint(0, 1000))
            machine.fill_the_owners_leg(part=part, ripe=part)
            random.choice((machine.blocks_become_final, machine.blocks_are_reorganised_away))(
                chain_id=chain_id, part=part
            )
            machine.time_passes(chain_id=chain_id, seconds=random.randint(1, 90))
            machine.nobody_is_overdrawn()
        asked, granted, done = asked + machine.asked, granted + machine.granted, done + machine.executed
    assert set(granted) == set(KINDS)
    assert set(done) == {*KINDS, "leg"}
    assert sum(granted.values()) > 0.2 * sum(asked.values())
    assert sum(done.values()) > 0.2 * sum(granted.values())


def test_the_invariant_can_fail() -> None:
    """What was granted at all times is executed beside what was not: the machine's own eyes are open."""
    machine = PermitMachine()
    machine.begin((10, 0, 0, 0), (0, 0), (100, 100))
    machine.nobody_is_overdrawn()
    unjudged = withdraw(100.5, C)
    machine.mined(executed(machine.head, unjudged), C, 1)
    with pytest.raises(AssertionError):
        machine.nobody_is_overdrawn()
