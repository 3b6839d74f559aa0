"""The default waterfall (CM-43): who takes what an account below maintenance margin cannot sell, and who pays for it.

    1  the account's own: its positions and collateral by auction, at the fund's cost where its equity is negative
    2  the fund: takes, at the mark, what nobody bid for, and pays the deficit of an account with nothing left to sell
    3  auto-deleveraging: accounts on the other side, those with most profit and leverage first, at the bankruptcy price

A rung is tried when the one before is spent: the second once an auction has run for twice its ramp, the third where the
account's equity is negative and the fund can not pay. All of it follows from the states at the cut, the batch's marks
and what is live, so that attestors find the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from keeper.margin.portfolio import Portfolio
from keeper.margin.report import AccountReport
from keeper.margin.valuation import GRAIN
from keeper.state.batch import NO_DEPOSIT_TARGET, LiquidationLeaf
from keeper.state.ids import FUND, ZERO32, AccountId, AssetId, has_margin, is_token
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount, World, margin_accounts

from .deleverage import against, bankruptcy_gains, fitting, ranked, room_of, shortfall
from .exposure import Exposure
from .legs import Leg, Plan, leaves_of
from .sale import Offered, Sale, Setting, Terms, sale_of

RIPE_RAMPS = 2
"""An auction of so many ramps has found no taker: one to ripen, one of grace."""


def rung_of(leaf: LiquidationLeaf) -> str:
    """What kind of leg it is: "auction", "fund" or "deleverage"."""
    if leaf.counterparty == ZERO32:
        return "auction"
    return "fund" if leaf.counterparty == FUND else "deleverage"


def is_ripe(started: int, setting: Setting) -> bool:
    """Whether an auction that began at `started` has had its time."""
    return setting.timestamp >= started + RIPE_RAMPS * setting.profile.ramp_seconds


# --- what the fund pays ----------------------------------------------------------------------------------------------


def deficits(setting: Setting, unsold: Collection[MarginAccount] = ()) -> dict[MarginAccount, int]:
    """What the fund is to pay, USD 1e18, rounded up to 1e-6: of every account that owes and has nothing left to sell,
    or nothing that may be sold (`unsold`: its hedges), what it owes beyond all it has."""
    found = {}
    for account in margin_accounts(setting.world):
        if not has_margin(account.account_id):
            continue
        book = setting.book(account)
        if account in unsold or (book.cash < 0 and not _holds_anything(account, setting.world, book)):
            owed = shortfall(book, setting.marks, setting.model)
            if owed:
                found[account] = owed
    return found


def payments(
    owed: Mapping[MarginAccount, int], world: World, fund: Mapping[int, int]
) -> tuple[list[tuple[AccountId, int, int]], dict[MarginAccount, int]]:
    """Deficits as the fund's cash by chain pays them, and of whom what it can not pay.

    (account, chain, amount): the smallest deficits first, each where the account owes most, then on its other chains.
    """
    left = {chain_id: max(0, cash) // GRAIN * GRAIN for chain_id, cash in fund.items()}
    paid: list[tuple[AccountId, int, int]] = []
    unpaid: dict[MarginAccount, int] = {}
    for account, amount in sorted(owed.items(), key=lambda each: (each[1], each[0].account_id, each[0].chains)):
        missing = amount
        for chain_id in sorted(account.chains, key=lambda c: (_cash(world, account.account_id, c), c)):
            part = min(missing, left.get(chain_id, 0))
            if part:
                paid.append((account.account_id, chain_id, part))
                left[chain_id] -= part
                missing -= part
        if missing:
            unpaid[account] = missing
    return paid, unpaid


def fund_cash(world: World) -> dict[int, int]:
    """The fund's cash by chain, USD 1e18."""
    return {chain_id: _cash(world, FUND, chain_id) for chain_id in sorted(world)}


def _holds_anything(account: MarginAccount, world: World, book: Portfolio) -> bool:
    positions = (world[c].sizes.get(account.account_id) for c in account.chains if c in world)
    return bool(book.collateral) or any(sizes for sizes in positions if sizes is not None)


def _cash(world: World, account_id: AccountId, chain_id: int) -> int:
    return world[chain_id].cash.get(account_id, 0) if chain_id in world else 0


# --- the rungs of one batch ------------------------------------------------------------------------------------------


class Waterfall:
    """Which rung each position of an account stands on, in one batch.

    Args:
        reports: of every account at the cut, at the batch's marks.
        live: every live leg that names a counterparty, and all that is live on accounts that may be one.
    """

    def __init__(
        self, setting: Setting, reports: Mapping[MarginAccount, AccountReport], live: Sequence[LiveItem]
    ) -> None:
        self.setting = setting
        self.reports = reports
        self.live = list(live)
        owed = {}
        for account, report in reports.items():
            if report.equity < 0:
                book = setting.book(account)
                owed[account] = shortfall(book, setting.marks, setting.model)
        paid, self.unpaid = payments(
            {account: amount for account, amount in owed.items() if amount}, setting.world, fund_cash(setting.world)
        )
        self.kept: dict[int, int] = {}
        """What the fund of a chain keeps for deficits."""
        for _, chain_id, amount in paid:
            self.kept[chain_id] = self.kept.get(chain_id, 0) + amount

    def note(self, legs: Iterable[LiquidationLeaf]) -> None:
        """Count legs of this batch as live: what they name is not there twice."""
        self.live += [LegItem(leaf, self.setting.timestamp) for leaf in legs]

    def offer(self, sale: Sale, started: int) -> Sale:
        """The sale with every position on the terms of its rung; `started` is when the account's auction began."""
        if sale.for_cash or not is_ripe(started, self.setting):
            return sale
        gains = bankruptcy_gains(sale, self.setting)
        before = list(self.live)
        offered = []
        for position in sale.offered:
            found = self._on_its_rung(position, sale, gains.get(position.key, 0))
            if not found.auctioned:
                self.note([_leaf(found, found.whole, sale)])
            offered.append(found)
        self.live = before
        return replace(sale, offered=tuple(offered))

    def faults(self, leaf: LiquidationLeaf, sale: Sale, started: int) -> list[str]:
        """What is wrong with the counterparty that a leg names, with every leg of the batch noted; empty for none."""
        position = next((p for p in sale.offered if p.key == (leaf.chain_id, leaf.asset)), None)
        if leaf.counterparty == ZERO32 or position is None:
            return []
        if sale.for_cash or not is_ripe(started, self.setting):
            return [f"a counterparty is named {self.setting.timestamp - started} s after its auction began"]
        size = abs(leaf.close_limit) - position.closed
        account = sale.portfolio.account
        if leaf.counterparty == FUND:
            if account in self.unpaid:
                return [f"the fund can not pay what the account owes, {self.unpaid[account]} are missing"]
            room = self.fund_room(leaf, size, position.lot)
            return [] if room >= size else [f"the fund of chain {leaf.chain_id} can take {room} of {size}"]
        if is_token(leaf.asset) or sale.final.equity >= 0:
            return ["only a position of an account with negative equity is closed against another's"]
        if account not in self.unpaid and self.fund_room(replace(leaf, counterparty=FUND), size, position.lot):
            return ["the fund can pay, and take the position"]
        for candidate in ranked(self.setting, self.reports, leaf.chain_id, leaf.asset, position.side):
            room = room_of(*self._asked(candidate.account, leaf, size, position.lot))
            if candidate.account.account_id == leaf.counterparty:
                return [] if room >= size else [f"its counterparty can close {room} of {size} (CM-41)"]
            if room:
                return [f"0x{candidate.account.account_id.hex()} has more profit and leverage than its counterparty"]
        return ["its counterparty has no sound position on the other side"]

    def gains(self, sale: Sale, legs: Iterable[LiquidationLeaf]) -> dict[tuple[int, AssetId], int]:
        """What the legs that are closed against others' positions execute better than the mark at."""
        wanted = {(leaf.chain_id, leaf.asset) for leaf in legs if rung_of(leaf) == "deleverage"}
        return (
            {key: gain for key, gain in bankruptcy_gains(sale, self.setting).items() if key in wanted} if wanted else {}
        )

    def fund_room(self, leaf: LiquidationLeaf, size: int, lot: int) -> int:
        """How much of `size` the fund of the leg's chain can take: its equity covers the requirement of all it holds
        and may be given, and its cash what it pays for collateral, beside what it keeps for deficits."""
        kept = self.kept.get(leaf.chain_id, 0)

        def bears(exposure: Exposure) -> bool:
            bound = exposure.bound()
            return bound.free >= kept and bound.cash_left >= kept

        named = [item for item in self.live if FUND in item.accounts]
        exposure, _ = against(MarginAccount(FUND, (leaf.chain_id,)), leaf, size, self.setting, named)
        return 0 if exposure is None else fitting(exposure, size, lot, bears)

    def _on_its_rung(self, position: Offered, sale: Sale, gain: int) -> Offered:
        account, size = sale.portfolio.account, abs(position.size)
        if account not in self.unpaid:
            asked = replace(position, terms=Terms(FUND))
            room = self.fund_room(_leaf(asked, size, sale), size, position.lot)
            if room:
                return replace(position, terms=Terms(FUND, 0, room))
        if is_token(position.asset) or sale.final.equity >= 0:
            return position
        for candidate in ranked(self.setting, self.reports, position.chain_id, position.asset, position.side):
            terms = Terms(candidate.account.account_id, gain)
            leaf = _leaf(replace(position, terms=terms), size, sale)
            room = room_of(*self._asked(candidate.account, leaf, size, position.lot))
            if room:
                return replace(position, terms=replace(terms, most=room))
        return position

    def _asked(
        self, account: MarginAccount, leaf: LiquidationLeaf, size: int, lot: int
    ) -> tuple[MarginAccount, LiquidationLeaf, int, int, Setting, list[LiveItem]]:
        leaf = replace(leaf, counterparty=account.account_id)
        beside = [item for item in self.live if account.account_id in item.accounts]
        return account, leaf, size, lot, self.setting, beside


def _leaf(position: Offered, size: int, sale: Sale) -> LiquidationLeaf:
    return LiquidationLeaf(
        account_id=sale.portfolio.account.account_id,
        chain_id=position.chain_id,
        asset=position.asset,
        close_limit=position.side * (position.closed + size),
        mark_price=sale.valuation.prices[position.asset] + position.side * position.terms.gain,
        max_concession=0,
        auction_start=0,
        deposit_target=NO_DEPOSIT_TARGET,
        counterparty=position.terms.counterparty,
    )


# --- the fund's own inventory ----------------------------------------------------------------------------------------


def inventory_legs(
    setting: Setting, chain_id: int, starts: Mapping[AssetId, int], live: Sequence[LiveItem] = ()
) -> list[LiquidationLeaf]:
    """All that the fund of a chain holds, offered by auction at up to the most concession, always.

    `starts` says when the auction of an asset began. The fund has no requirement, so no corner holds it back.
    """
    sale = sale_of(MarginAccount(FUND, (chain_id,)), setting, live)
    legs = [
        Leg(position, position.whole, int(sale.most_concession(position) * 1e6) * GRAIN, 0) for position in sale.offered
    ]
    found = []
    for leg in legs:
        started = starts.get(leg.position.asset, setting.timestamp)
        found += leaves_of(Plan((leg,), 0.0, 0.0, 0.0, restores=False), sale, setting, started)
    return found


def inventory_faults(legs: Sequence[LiquidationLeaf], setting: Setting, live: Sequence[LiveItem] = ()) -> list[str]:
    """What is wrong with legs of the fund: each sells what it holds there, at the mark, for at most what it may
    concede."""
    faults = []
    for leaf in legs:
        sale = sale_of(MarginAccount(FUND, (leaf.chain_id,)), setting, live)
        position = next((p for p in sale.offered if p.asset == leaf.asset), None)
        name = f"the fund's, chain {leaf.chain_id}, 0x{leaf.asset.hex()}"
        if position is None:
            faults.append(f"{name}: it has no such position to offer")
            continue
        size = abs(leaf.close_limit) - position.closed
        most = sale.most_concession(position)
        fine = (
            (leaf.close_limit > 0) == (position.size > 0)
            and 0 < size <= abs(position.size)
            and leaf.mark_price == sale.valuation.prices[leaf.asset]
            and 0 <= leaf.max_concession <= most * 10**18
            and leaf.auction_start <= setting.timestamp
            and (leaf.deposit_target, leaf.counterparty) == (NO_DEPOSIT_TARGET, ZERO32)
        )
        if not fine:
            faults.append(f"{name}: not at the mark, of {position.size} at most, conceding {most:g} at most")
    return faults
