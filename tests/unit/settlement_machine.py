"""The machine of CM-50: cycles are planned, signed, posted here and skipped there, applied in any order and once.

Three chains' ledgers, each a list of blocks from the final one to the head. Attestors plan and check at final blocks
only; what they signed stays in every later batch until its application is final. Chains apply leaves of the batch they
hold, burn what is shipped and take in what was burned in a final block. Blocks become final or are reorganised away
with everything in them, and a proposer crashes between any two steps. In between people deposit, trade and withdraw.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from immutables import Map
from settlement_blocks import SCALE, Block, View
from worlds import LISTING, MAKER, OTHER, OWNER, STRANGER, A, B, C, Chains, usd

from keeper.clearing.settlement import (
    Cycle,
    Ledger,
    Terms,
    Vault,
    cover,
    is_applied,
    is_shipment,
    ledgers,
    offset,
    plan,
    unapplied,
    vaults,
)
from keeper.clearing.settlement_checks import broken
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import FUND, AccountId, transfer_target
from keeper.state.world import MarginAccount, World, margin_accounts

CHAINS = (A, B, C)
ACCOUNTS = (OWNER, OTHER, MAKER, STRANGER)
TERMS = Terms(least_transfer=1, least_offset=1, most_accounts=3)

chain_ids = st.sampled_from(CHAINS)
accounts = st.sampled_from(ACCOUNTS)
parts = st.integers(1, 100).map(lambda n: n / 100)
choices = st.integers(0, 1000)


class SettlementMachine(RuleBasedStateMachine):
    """CM-50, with CM-30 at every block."""

    @initialize(cash=st.lists(st.integers(-300, 500), min_size=12, max_size=12), fund=st.integers(0, 300))
    def begin(self, cash: list[int], fund: int) -> None:
        """STRANGER is linked on A and B only. What accounts lost, MAKER won on the same chain."""
        chains = Chains()
        for account in (OWNER, OTHER, MAKER):
            chains.linked(account, CHAINS)
        chains.linked(STRANGER, (A, B))
        self.blocks: dict[int, list[Block]] = {}
        for n, chain_id in enumerate(CHAINS):
            state = replace(chains.world[chain_id], held=0)
            block = Block(state, Map()).paid(FUND, usd(fund)).tokens(usd(fund))
            for account, amount in zip(ACCOUNTS, cash[4 * n : 4 * n + 4], strict=True):
                won = usd(amount) + n  # fractions of a millionth too
                block = block.paid(account, won).paid(MAKER, -won)
            self.blocks[chain_id] = [block]
        self.proposed: Cycle | None = None
        self.signed: list[SettlementLeaf] = []
        self.number = 0
        self.batch: tuple[SettlementLeaf, ...] = ()
        self.done: Counter[str] = Counter()

    # --- views -----------------------------------------------------------------------------------------------------

    @property
    def final(self) -> View:
        return {chain_id: blocks[0] for chain_id, blocks in self.blocks.items()}

    @property
    def head(self) -> View:
        return {chain_id: blocks[-1] for chain_id, blocks in self.blocks.items()}

    def mine(self, chain_id: int, block: Block | None, what: str) -> bool:
        if block is not None:
            self.blocks[chain_id].append(block)
            self.done[what] += 1
        return block is not None

    # --- people ----------------------------------------------------------------------------------------------------

    @rule(chain_id=chain_ids, account=accounts, amount=st.integers(1, 200))
    def deposit(self, chain_id: int, account: AccountId, amount: int) -> None:
        self.mine(chain_id, self.head[chain_id].paid(account, usd(amount)).tokens(usd(amount)), "deposit")

    @rule(chain_id=chain_ids, account=accounts, part=parts)
    def withdraw(self, chain_id: int, account: AccountId, part: float) -> None:
        """Of what is booked here, as far as tokens reach: the vault may be left without what a shipment wants."""
        block = self.head[chain_id]
        most = min(block.state.cash.get(account, 0) // SCALE, block.state.held)
        amount = int(most * part) * SCALE
        if amount > 0:
            self.mine(chain_id, block.paid(account, -amount).tokens(-amount), "withdraw")

    @rule(chain_id=chain_ids, winner=accounts, loser=accounts, amount=st.integers(1, 10**20))
    def trade(self, chain_id: int, winner: AccountId, loser: AccountId, amount: int) -> None:
        self.mine(chain_id, self.head[chain_id].paid(winner, amount).paid(loser, -amount), "trade")

    # --- attestors -------------------------------------------------------------------------------------------------

    def world(self) -> World:
        return {chain_id: block.state for chain_id, block in self.final.items()}

    def deficits(self) -> dict[MarginAccount, int]:
        """Nobody has positions here: equity is cash and what is signed and not applied."""
        waiting = unapplied(self.signed, self.world())
        found = {}
        for account in margin_accounts(self.world()):
            equity = sum(self.final[c].state.cash.get(account.account_id, 0) for c in account.chains)
            equity += sum(leaf.cash_delta for leaf in waiting if leaf.account_id == account.account_id)
            if account.account_id != FUND:
                found[account] = max(0, -equity)
        return found

    def figures(self) -> tuple[list[Ledger], dict[int, Vault]]:
        return (
            ledgers(self.world(), self.signed, self.deficits()),
            vaults(self.world(), LISTING, self.signed),
        )

    @rule(by_fund=st.booleans())
    def propose(self, by_fund: bool) -> None:
        """In memory of the proposer."""
        books, places = self.figures()
        if by_fund:
            funds = [each for each in books if each.account.account_id == FUND and each.may_enter]
            fund = {c: each.cash[c] for each in funds for c in each.account.chains}
            self.proposed = cover(books, fund, self.number + 1, TERMS)
        else:
            self.proposed = plan(books, places, self.number + 1, TERMS)
        self.done["propose"] += self.proposed is not None

    @rule()
    def sign(self) -> None:
        """Attestors judge what is proposed at their own final blocks, which may be later, and journal it."""
        if self.proposed is None:
            return
        books, places = self.figures()
        entries, self.proposed = self.proposed.entries, None
        if broken(entries, books, places, TERMS, self.number):
            self.done["refuse"] += 1
            return
        self.number = entries[0].cycle
        self.signed += entries
        self.done["cover" if any(leaf.account_id == FUND for leaf in entries) else "sign"] += 1

    @rule()
    def crash(self) -> None:
        """What is proposed is forgotten; what is signed is in the journals."""
        self.done["crash"] += self.proposed is not None
        self.proposed = None

    @rule()
    def sign_batch(self) -> None:
        """Every leaf whose application is not final."""
        self.batch = tuple(unapplied(self.signed, self.world()))
        self.done["batch"] += bool(self.batch)

    # --- chains ----------------------------------------------------------------------------------------------------

    @rule(chain_id=chain_ids)
    def post(self, chain_id: int) -> None:
        """The chains on which this does not run skip the batch."""
        self.mine(chain_id, replace(self.head[chain_id], posted=self.batch), "post")

    @rule(choice=choices)
    def apply(self, choice: int) -> None:
        """Any leaf ever signed, also one that was applied before."""
        if self.signed:
            leaf = self.signed[choice % len(self.signed)]
            what = "ship" if is_shipment(leaf) else "apply"
            if not self.mine(leaf.chain_id, self.head[leaf.chain_id].applied(leaf), what):
                self.done[f"{what}: refused"] += 1

    @rule(choice=choices, fee=st.integers(0, 2))
    def deliver(self, choice: int, fee: int) -> None:
        """The bridge attests what was burned in a final block; again after the arrival was reorganised away."""
        burned = [leaf for leaf in self.signed if is_shipment(leaf) and not self.waits(leaf, self.final)]
        if burned:
            leaf = burned[choice % len(burned)]
            target = transfer_target(leaf.account_id)
            assert target is not None
            taken = min(usd(fee) // 100, -leaf.cash_delta)
            self.mine(target, self.head[target].arrived(leaf, taken), "arrive")

    @rule(chain_id=chain_ids, part=parts)
    def blocks_become_final(self, chain_id: int, part: float) -> None:
        blocks = self.blocks[chain_id]
        self.blocks[chain_id] = blocks[round((len(blocks) - 1) * part) :]

    @rule(chain_id=chain_ids, part=parts)
    def blocks_are_reorganised_away(self, chain_id: int, part: float) -> None:
        blocks = self.blocks[chain_id]
        kept = blocks[: max(1, round(len(blocks) * (1 - part)))]
        undone = set(blocks[-1].state.applied) - set(kept[-1].state.applied)
        self.done["application undone"] += bool(undone)
        self.blocks[chain_id] = kept

    # --- what must hold --------------------------------------------------------------------------------------------

    @staticmethod
    def waits(leaf: SettlementLeaf, view: View) -> bool:
        return not is_applied(leaf, view[leaf.chain_id].state)

    @invariant()
    def ledgers_add_up(self) -> None:
        """At the final blocks, at the heads, and at any mixture of them."""
        final, head = self.final, self.head
        for view in (final, head, *({**head, c: final[c]} for c in CHAINS), *({**final, c: head[c]} for c in CHAINS)):
            self.check(view)

    def check(self, view: View) -> None:
        for block in view.values():
            assert block.state.held >= 0
            assert sum(block.state.cash.values()) == block.state.held * SCALE + block.state.claims, "CM-30 on a chain"
        entries = [leaf for leaf in self.signed if not is_shipment(leaf)]
        shipped = [leaf for leaf in self.signed if is_shipment(leaf) and not self.waits(leaf, view)]
        flying = [leaf for leaf in shipped if not self.has_arrived(leaf, view)]
        claims = sum(block.state.claims for block in view.values())
        waiting = [leaf for leaf in entries if self.waits(leaf, view)]
        assert claims + sum(leaf.cash_delta for leaf in waiting) == -sum(leaf.cash_delta for leaf in flying), "CM-30"
        for account in (*ACCOUNTS, FUND):
            own = sum(block.own.get(account, 0) for block in view.values())
            cash = sum(block.state.cash.get(account, 0) for block in view.values())
            signed = sum(leaf.cash_delta for leaf in entries if leaf.account_id == account)
            unapplied_ = sum(leaf.cash_delta for leaf in waiting if leaf.account_id == account)
            assert cash + unapplied_ == own + signed, "applying changed an account's cash"
            for chain_id, block in view.items():
                once = [e for e in entries if (e.account_id, e.chain_id) == (account, chain_id) and e not in waiting]
                booked = block.state.cash.get(account, 0) - block.own.get(account, 0)
                assert booked == sum(leaf.cash_delta for leaf in once), "an entry counted twice, or not"

    @invariant()
    def positions_cancel(self) -> None:
        """What chains are short of, with all that is signed and under way, is what others have too much."""
        places = vaults(self.world(), LISTING, self.signed)
        assert sum(vault.position for vault in places.values()) == 0

    @staticmethod
    def has_arrived(leaf: SettlementLeaf, view: View) -> bool:
        target = transfer_target(leaf.account_id)
        assert target is not None
        return (leaf.cycle, leaf.chain_id) in view[target].received

    @invariant()
    def nobody_is_in_two_cycles(self) -> None:
        """And no cycle but the fund's changes what an account has in sum."""
        waiting: dict[AccountId, set[int]] = {}
        for leaf in unapplied(self.signed, self.world()):
            if not is_shipment(leaf):
                waiting.setdefault(leaf.account_id, set()).add(leaf.cycle)
        assert all(len(cycles) == 1 for cycles in waiting.values()), waiting
        funded = {leaf.cycle for leaf in self.signed if leaf.account_id == FUND}
        sums: Counter[tuple[int, AccountId]] = Counter()
        for leaf in self.signed:
            if not is_shipment(leaf) and leaf.cycle not in funded:
                sums[(leaf.cycle, leaf.account_id)] += leaf.cash_delta
        assert not any(sums.values())

    # --- the end ---------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if hasattr(self, "done"):
            self.come_to_rest()
            event(f"{len({leaf.cycle for leaf in self.signed})} cycles")

    def come_to_rest(self) -> None:
        """With tokens on every chain and everybody doing his work, all is offset and nothing is owed between chains."""
        for chain_id in CHAINS:
            self.deposit(chain_id, MAKER, 100_000)
        for _ in range(12):
            self.finish()
            self.propose(by_fund=True)
            if self.proposed is None:
                self.propose(by_fund=False)
            if self.proposed is None:
                break
            signed = len(self.signed)
            self.sign()
            assert len(self.signed) > signed, "what was just planned is refused"
        self.ledgers_add_up()
        for account in margin_accounts(self.world()):
            cash = {c: self.final[c].state.cash.get(account.account_id, 0) for c in account.chains}
            assert offset(cash) == {}
        assert {block.state.claims for block in self.final.values()} == {0}

    def finish(self) -> None:
        """Everything signed is applied, shipped, delivered and final."""
        self.sign_batch()
        for chain_id in CHAINS:
            self.post(chain_id)
        for _ in range(2):
            for number in range(len(self.signed)):
                self.apply(number)
                self.deliver(number, 0)
            for chain_id in CHAINS:
                self.blocks_become_final(chain_id, 1.0)
        assert unapplied(self.signed, self.world()) == []
