"""Who is there when the market falls, and what everybody holds: a pure function of a size and a seed.

Every number is drawn from one seeded generator, so that two runs have the same population; what differs is how the
nodes and the chains happen to be scheduled.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keeper.devnet.chains import CHAINS, START_PRICES
from keeper.state.batch import UNIT
from keeper.state.ids import (
    AccountId,
    AssetId,
    Instrument,
    Kind,
    account_id,
    instrument_id,
    parse_instrument,
    perpetual,
)

from ..chains import account

FIRST_OWNER = 100
"""Accounts of the mnemonic from here on are the population's; they get their coin when they appear."""
WEEK = 7 * 86_400
LEAST_ACCOUNTS = 20
GRAIN = 10**15
"""Sizes are thousandths of a unit."""
_COLLATERAL = {"USDC": 60, "WETH": 22, "WBTC": 18}
"""What accounts deposit, with weights."""


class ScenarioError(ValueError):
    """A population that cannot be made; the message says what is wanted."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """`usd` worth of a token on a chain, at the start prices."""

    chain_id: int
    symbol: str
    usd: int


@dataclass(frozen=True, slots=True)
class Member:
    """One account. `owner` is the index of its key; `chains` are linked with each other."""

    role: str
    owner: int
    sub_account: int
    chains: tuple[int, ...]
    deposits: tuple[Deposit, ...]

    @property
    def account_id(self) -> AccountId:
        return account_id(account(self.owner).address, self.sub_account)

    @property
    def margin(self) -> float:
        """USD that positions may be measured by: tokens fall with them, and so count less than cash."""
        return sum(deposit.usd * (1.0 if deposit.symbol == "USDC" else 0.7) for deposit in self.deposits)


@dataclass(frozen=True, slots=True)
class Deal:
    """A trade of one member with another. The taker buys or sells so much that it alone takes `share` of the taker's
    margin as initial margin, or as much as deal `like` (of the same taker)."""

    chain_id: int
    asset: AssetId
    taker: int
    maker: int
    buys: bool
    share: float
    like: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Instruments that trade (dated ones, ascending), members and deals, in the order in which they are made."""

    instruments: tuple[AssetId, ...]
    members: tuple[Member, ...]
    deals: tuple[Deal, ...]

    @property
    def traded(self) -> set[AssetId]:
        return {deal.asset for deal in self.deals}

    def sizes(self, long: Mapping[AssetId, int], short: Mapping[AssetId, int]) -> list[int]:
        """Signed size of every deal's taker, 1e18, by what one unit requires held long and short (USD 1e18)."""
        found: list[int] = []
        for deal in self.deals:
            if deal.like is not None:
                size = abs(found[deal.like])
            else:
                required = max((long if deal.buys else short)[deal.asset], _least(deal.asset))
                size = int(deal.share * self.members[deal.taker].margin * UNIT * UNIT / required)
                size = max(GRAIN, size // GRAIN * GRAIN)
            found.append(size if deal.buys else -size)
        return found


def listed(near: int, far: int) -> tuple[AssetId, ...]:
    """The seventeen dated instruments: three on ETH that expire at `near`, fourteen at `far`. Unix seconds."""
    eth, btc, sol = (START_PRICES[name] for name in ("ETH", "BTC", "SOL"))
    found = [Instrument(Kind.FUTURE, name, far) for name in ("BTC", "ETH", "SOL")]
    found += [Instrument(Kind.FUTURE, "ETH", near), *_options("ETH", near, eth, (100,), (100,))]
    found += _options("ETH", far, eth, (80, 90, 100), (100, 110, 120))
    found += _options("BTC", far, btc, (90, 100), (100, 110))
    found += _options("SOL", far, sol, (90,), ())
    return tuple(sorted(instrument_id(each) for each in found))


def _least(asset: AssetId) -> int:
    """A bought option requires little: as if it were a twentieth of its underlying, USD 1e18."""
    return START_PRICES[parse_instrument(asset).underlying] * 10**10 // 20


def _options(name: str, expiry: int, price: int, puts: Sequence[int], calls: Sequence[int]) -> list[Instrument]:
    """At strikes in per cent of `price`."""
    return [Instrument(Kind.PUT, name, expiry, price * percent // 100) for percent in puts] + [
        Instrument(Kind.CALL, name, expiry, price * percent // 100) for percent in calls
    ]


def scenario(accounts: int, seed: int, near: int, far: int) -> Scenario:
    """The population. `near` and `far` are the expiries, unix seconds.

    Raises:
        ScenarioError: fewer accounts than there are kinds of them.
    """
    if accounts < LEAST_ACCOUNTS:
        raise ScenarioError(f"{accounts} accounts: at least {LEAST_ACCOUNTS} are wanted, so that every kind is there")
    instruments = listed(near, far)
    return _Draw(accounts, random.Random(seed), instruments, near).scenario()


class _Draw:
    """Draws members and deals, one role after the other."""

    def __init__(self, accounts: int, rng: random.Random, instruments: tuple[AssetId, ...], near: int) -> None:
        self.rng = rng
        self.instruments = instruments
        self.chains = [chain.chain_id for chain in CHAINS]
        self.members: list[Member] = []
        self.deals: list[Deal] = []
        self.roles = _roles(accounts)
        self.owners = 0
        self.makers = self.roles.count("maker")
        kinds = {asset: Kind(asset[0]) for asset in instruments}
        self.futures = [asset for asset, kind in kinds.items() if kind is Kind.FUTURE]
        self.options = [asset for asset, kind in kinds.items() if kind in (Kind.CALL, Kind.PUT)]
        self.near = {asset for asset in instruments if int.from_bytes(asset[9:14], "big") == near}
        self.perpetuals = [perpetual(name) for name in ("ETH", "BTC", "SOL")]

    def scenario(self) -> Scenario:
        for role in self.roles:
            getattr(self, f"_{role}")()
        self._cover()
        # What expires soonest is traded first; a deal stays behind the one that it is as large as.
        order = sorted(range(len(self.deals)), key=lambda i: (self.deals[i].asset not in self.near, i))
        place = {old: new for new, old in enumerate(order)}
        deals = [self.deals[old] for old in order]
        linked = [_replaced(deal, None if deal.like is None else place[deal.like]) for deal in deals]
        return Scenario(self.instruments, tuple(self.members), tuple(linked))

    # --- members -----------------------------------------------------------------------------------------------------

    def _add(self, role: str, chains: Sequence[int], deposits: Sequence[Deposit]) -> int:
        """A quarter of those who are no makers is a second account of an owner who is there already."""
        owners = [m.owner for m in self.members if m.role != "maker" and m.sub_account == 0]
        if role != "maker" and owners and self.rng.random() < 0.27:
            owner = self.rng.choice(owners)
            sub_account = 1 + sum(m.owner == owner and m.sub_account > 0 for m in self.members)
        else:
            owner, sub_account = FIRST_OWNER + self.owners, 0
            self.owners += 1
        self.members.append(Member(role, owner, sub_account, tuple(sorted(set(chains))), tuple(deposits)))
        return len(self.members) - 1

    def _funded(self, low: int, high: int, *, cash_only: bool = False) -> tuple[list[Deposit], int]:
        """One deposit somewhere, or two on two chains; and the first one's chain."""
        usd = self.rng.randrange(low, high)
        drawn = self.rng.choices(list(_COLLATERAL), list(_COLLATERAL.values()))[0]
        symbol = "USDC" if cash_only else drawn
        home = self.rng.choice(self.chains)
        if self.rng.random() < 0.25:
            other = self._elsewhere(home)
            return [Deposit(home, symbol, usd - usd // 3), Deposit(other, "USDC", usd // 3)], home
        return [Deposit(home, symbol, usd)], home

    def _elsewhere(self, chain_id: int) -> int:
        return self.rng.choice([other for other in self.chains if other != chain_id])

    def _place(self, home: int) -> int:
        """Where a position is: mostly on another chain than the collateral."""
        return home if self.rng.random() < 0.3 else self._elsewhere(home)

    def _deal(
        self, taker: int, chain_id: int, asset: AssetId, buys: bool, share: float, like: int | None = None
    ) -> int:
        owner = self.members[taker].owner
        makers = [i for i in range(self.makers) if self.members[i].owner != owner]
        maker = makers[len(self.deals) % len(makers)]
        self.deals.append(Deal(chain_id, asset, taker, maker, buys, share, like))
        return len(self.deals) - 1

    def _maker(self) -> None:
        """Takes the other side of everything, with cash on every chain."""
        usd = self.rng.randrange(90_000, 150_000)
        self._add("maker", self.chains, [Deposit(chain_id, "USDC", usd // 3) for chain_id in self.chains])

    def _long(self) -> None:
        """One long, from cautious to as much as is allowed."""
        deposits, home = self._funded(2_000, 20_000)
        chain_id = self._place(home)
        member = self._add("long", [*(d.chain_id for d in deposits), chain_id], deposits)
        choice = self.perpetuals if self.rng.random() < 0.65 else self.futures
        self._deal(member, chain_id, self.rng.choice(choice), True, self.rng.choice((0.15, 0.25, 0.4, 0.55, 0.8)))

    def _hedged(self) -> None:
        """The same size long on one chain and short on another: nothing at risk but the funding."""
        deposits, home = self._funded(4_000, 12_000, cash_only=True)
        other = self._elsewhere(home)
        third = next(c for c in self.chains if c not in (home, other))
        member = self._add("hedged", self.chains, deposits)
        asset = self.rng.choice(self.perpetuals)
        first = self._deal(member, other, asset, True, self.rng.uniform(0.5, 0.8))
        self._deal(member, third, asset, False, 0.0, first)

    def _writer(self) -> None:
        """Has sold an option, a put most often."""
        deposits, home = self._funded(5_000, 20_000)
        chain_id = self._place(home)
        member = self._add("writer", [*(d.chain_id for d in deposits), chain_id], deposits)
        wanted = Kind.PUT if self.rng.random() < 0.75 else Kind.CALL
        asset = self.rng.choice([asset for asset in self.options if asset[0] == wanted])
        self._deal(member, chain_id, asset, False, self.rng.choice((0.2, 0.4, 0.6)))

    def _buyer(self) -> None:
        """Has bought a put."""
        deposits, home = self._funded(5_000, 15_000, cash_only=True)
        member = self._add("buyer", [d.chain_id for d in deposits], deposits)
        puts = [asset for asset in self.options if asset[0] == Kind.PUT]
        self._deal(member, home, self.rng.choice(puts), True, 0.15)

    def _short(self) -> None:
        deposits, home = self._funded(5_000, 15_000, cash_only=True)
        chain_id = self._place(home)
        member = self._add("short", [*(d.chain_id for d in deposits), chain_id], deposits)
        self._deal(member, chain_id, self.rng.choice(self.perpetuals), False, self.rng.choice((0.3, 0.5)))

    def _mixed(self) -> None:
        """A perpetual, a future and an option on three chains."""
        deposits, _ = self._funded(8_000, 25_000)
        member = self._add("mixed", self.chains, deposits)
        first, second, third = self.rng.sample(self.chains, 3)
        self._deal(member, first, self.rng.choice(self.perpetuals), True, self.rng.uniform(0.2, 0.4))
        self._deal(member, second, self.rng.choice(self.futures), True, self.rng.uniform(0.1, 0.3))
        self._deal(member, third, self.rng.choice(self.options), False, self.rng.uniform(0.1, 0.25))

    def _cover(self) -> None:
        """Makers trade with each other what nobody else wanted, and whoever of them has nothing yet trades too."""
        wanted = [
            asset for asset in (*self.perpetuals, *self.instruments) if asset not in {d.asset for d in self.deals}
        ]
        idle = [i for i in range(self.makers) if all(i not in (d.maker, d.taker) for d in self.deals)]
        for number in range(max(len(wanted), len(idle))):
            asset = wanted[number] if number < len(wanted) else self.perpetuals[0]
            taker = idle[number] if number < len(idle) else number % self.makers
            self._deal(taker, self.chains[number % 3], asset, True, 0.02)


def _roles(accounts: int) -> list[str]:
    """Makers first, since they are on the other side; of all others so many each that longs remain."""
    counts = {
        "maker": max(3, accounts // 10),
        "hedged": accounts // 10,
        "writer": accounts // 8,
        "buyer": max(1, accounts // 20),
        "short": max(1, accounts // 25),
        "mixed": accounts // 10,
    }
    counts["long"] = accounts - sum(counts.values())
    return [role for role, count in counts.items() for _ in range(count)]


def _replaced(deal: Deal, like: int | None) -> Deal:
    return Deal(deal.chain_id, deal.asset, deal.taker, deal.maker, deal.buys, deal.share, like)
