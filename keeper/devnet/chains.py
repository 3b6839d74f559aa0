"""What the devnet is made of: three chains, well-known keys, start prices. Plain constants and one derivation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from eth_account import Account
from eth_account.hdaccount import key_from_seed, seed_from_mnemonic

from keeper.state.deployment import PERPETUAL, VOL
from keeper.state.ids import Address, AssetId, Instrument, Kind, address, instrument_id

NAME = "Cross Margin"
VERSION = "1"
SALT = 0
"""The third part of the deployment id."""

MNEMONIC = "test test test test test test test test test test test junk"
"""Anvil's own, known to everyone: these keys are for the devnet and nothing else."""
ACCOUNTS = 160
"""How many accounts of the mnemonic hold the chains' native coin."""

DEPLOYER = 0
"""Also sets the feeds; tokens can be minted by anyone."""
ATTESTORS = (1, 2, 3, 4)
THRESHOLD = 3
RELAYER = 5
LIQUIDATOR = 6
LIQUIDATORS = (LIQUIDATOR, 60, 61, 62)
"""A devnet may have several; the first relays as well."""
FIRST_USER = 7

CIRCLE = 59
"""The attester of shipments, which on a public chain is Circle's."""

SETTLEMENT = "USDC"
FEED_DECIMALS = 8
START_PRICES: dict[str, int] = {"ETH": 3_000 * 10**8, "BTC": 60_000 * 10**8, "SOL": 150 * 10**8, SETTLEMENT: 10**8}
"""First answers of the price feeds, USD 1e8. A perpetual's feed starts at its underlying's."""
START_VOLS: dict[str, int] = {"ETH": 60 * 10**6, "BTC": 50 * 10**6, "SOL": 80 * 10**6}
"""First answers of the vol feeds: implied vol at the money for thirty days, fraction of 1e8."""
TOKENS: dict[str, dict[str, int | str]] = {
    SETTLEMENT: {"decimals": 6},
    "WETH": {"decimals": 18, "underlying": "ETH"},
    "WBTC": {"decimals": 8, "underlying": "BTC"},
}
POOL: dict[str, int | str] = {"token": "WETH", "fee": 500, "depth": 5_000}
"""The pool of a collateral token with the settlement token: fee in hundredths of a basis point, and how many whole
tokens lie in it at the start price. Selling one moves the price by 2 ÷ depth."""
DOMAINS: dict[int, int] = {31_337_001: 0, 31_337_002: 6, 31_337_003: 3}
"""Circle's numbers of chains; these are of the public chains most like the three."""
MAX_FEE_BPS = 10
"""Most that a shipment may cost, basis points."""
FINAL = 2_000
"""Shipments are attested once final."""
LENDER = {"maxMarkAge": 60, "maxStateAge": 120, "term": 5}
"""What the example integrator on every chain accepts, seconds."""


STATES_SECONDS = 120
"""How far back a chain answers calls at old blocks at least, seconds; at all of them until block 1,500. Blocks,
receipts and logs stay while it runs."""
_STATE_BYTES = 1_700_000
"""What the state of one block takes on disk in the end: each is a whole one, with 8,191 block hashes in it."""


@dataclass(frozen=True, slots=True)
class DevnetChain:
    """`chain_id` belongs to no public chain."""

    name: str
    chain_id: int
    block_seconds: float

    @property
    def states(self) -> int:
        """Of how many old blocks the state is kept on disk."""
        return int(STATES_SECONDS / self.block_seconds)


CHAINS = (
    DevnetChain("A", 31_337_001, 2.0),
    DevnetChain("B", 31_337_002, 1.0),
    DevnetChain("C", 31_337_003, 0.5),
)


def disk_bytes() -> int:
    """What the three chains' states take on disk after hours; nothing in the first ten minutes."""
    return sum(chain.states for chain in CHAINS) * _STATE_BYTES


@dataclass(frozen=True, slots=True)
class DevnetAccount:
    """`key` is the 32-byte private key."""

    index: int
    address: Address
    key: bytes


@cache
def account(index: int) -> DevnetAccount:
    """The account of `MNEMONIC` at m/44'/60'/0'/0/`index`."""
    key = key_from_seed(_seed(), f"m/44'/60'/0'/0/{index}")
    return DevnetAccount(index, address(Account.from_key(key).address), key)


@cache
def _seed() -> bytes:
    return bytes(seed_from_mnemonic(MNEMONIC, ""))


def attestor_addresses() -> tuple[Address, ...]:
    """Ascending, as contracts and the deployments file want them."""
    return tuple(sorted(account(index).address for index in ATTESTORS))


def start_answers() -> dict[str, int]:
    """First answers of all feeds: prices in USD 1e8, vols as fractions of 1e8."""
    return (
        START_PRICES
        | {name + PERPETUAL: price for name, price in START_PRICES.items() if name != SETTLEMENT}
        | {name + VOL: vol for name, vol in START_VOLS.items()}
    )


def series(now: int) -> tuple[AssetId, ...]:
    """What trades beside the perpetuals: at 08:00 UTC in a week a future of every underlying, and calls and puts at
    three strikes of ETH and BTC."""
    expiry = (now // 86_400 + 7) * 86_400 + 8 * 3600
    names = sorted(START_VOLS)
    found = [Instrument(Kind.FUTURE, name, expiry) for name in names]
    for name in ("BTC", "ETH"):
        strikes = [START_PRICES[name] * percent // 100 for percent in (90, 100, 110)]
        found += [Instrument(kind, name, expiry, strike) for strike in strikes for kind in (Kind.CALL, Kind.PUT)]
    return tuple(sorted(instrument_id(each) for each in found))


def minutes(now: int) -> tuple[AssetId, ...]:
    """What the demo trades to its expiry: a future and a call on ETH, one pair a minute from the third minute on."""
    expiries = [now + 150 + 60 * minute for minute in range(5)]
    found = [Instrument(Kind.FUTURE, "ETH", expiry) for expiry in expiries]
    found += [Instrument(Kind.CALL, "ETH", expiry, 2_500 * 10**8) for expiry in expiries]
    return tuple(sorted(instrument_id(each) for each in found))


def chain_named(name: str) -> DevnetChain:
    """By letter or chain id.

    Raises:
        LookupError: for anything else, naming what there is.
    """
    for chain in CHAINS:
        if name.upper() == chain.name or name == str(chain.chain_id):
            return chain
    raise LookupError(f"no chain {name!r} in the devnet: " + ", ".join(f"{c.name} ({c.chain_id})" for c in CHAINS))
