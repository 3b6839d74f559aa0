"""Chapters b2, f2, h and i: dated instruments to their expiry, a claimed reservation, cash settled between chains."""

from __future__ import annotations

import asyncio
from typing import Any

from keeper.devnet.narrator import expect
from keeper.devnet.reader import usd
from keeper.devnet.wallet import trade
from keeper.state.actions import Reserve
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Instrument, Kind, instrument_id, parse_instrument

from .stage import B, C, Stage

_LOAN = 500 * UNIT
_STRIKE = 2_500 * UNIT
_LEAST_SECONDS = 25
"""An instrument with less time left is not opened any more."""


async def dated(stage: Stage) -> None:
    """b2: a future and a call on B, in one margin with WETH on A and a short perpetual on B."""
    async with stage.tell.step("b2", "A future and an option join the margin"):
        owner, maker = stage["hedger"], stage["maker"]
        future, call = await _listed(stage)
        before = await _margin(stage, owner.account())
        price, premium = await _mark(stage, future), await _mark(stage, call)
        await trade(maker, owner, B, future, 2 * UNIT, price)
        await trade(maker, owner, B, call, 4 * UNIT, premium)
        held = await stage.until_margin(
            "both are final", owner.account(), lambda m: sum(len(h["positions"]) for h in m["holdings"]) >= 3
        )
        stage.dated = (future, call)
        stage.tell.say(
            f"10 WETH on A, short 8 ETH on B; now long 2 futures and 4 calls at 2,500: initial margin "
            f"{before:,.2f} → {held['usd']['initialMargin']:,.2f}",
            before=before,
            after=held["usd"]["initialMargin"],
        )


async def expiries(stage: Stage) -> None:
    """h: both expire, and settle at one price."""
    async with stage.tell.step("h", "What expires settles at one price, the average of final data"):
        owner = stage["hedger"]
        future, call = stage.dated
        expiry = parse_instrument(future).expiry
        now = await owner.head_time(B)
        await stage.until(
            f"the call and the future have expired, {expiry - now} s from now",
            lambda: owner.head_time(B),
            max(0, expiry - now) + 60,
            lambda time: time > expiry,
        )
        prices = await stage.until(
            "the settlement prices are on chain B",
            lambda: _prices(stage, future, call),
            90,
            lambda found: all(fixed for fixed, _ in found),
        )
        (_, settled), (_, worth) = prices
        expect(worth == max(0, settled - _STRIKE), "the call's value is the future's price less its strike", worth)
        await stage.until(
            "every position in them is settled", lambda: _open_positions(stage, future, call), 60, lambda n: n == 0
        )
        stage.tell.say(
            f"expired: one settlement price, the feed's average, {usd(settled):,.2f}; the call pays {usd(worth):,.2f}; "
            "no position is left",
            settlement_price=usd(settled),
            call=usd(worth),
        )


async def claims(stage: Stage) -> None:
    """f2: a loan on C against margin whose cash is on A is not repaid."""
    async with stage.tell.step("f2", "A protocol claims what was reserved for it, in cash, on its own chain"):
        owner = stage["owner"]
        lender = stage.deployment.chains[C].integrator
        assert lender is not None
        token = stage.deployment.chains[C].settlement
        until = await owner.head_time(C) + 600
        await owner.use(await owner.request(C, Reserve(owner.account(), lender, _LOAN, _LOAN, until)))
        await owner.lender(C, "borrow", _LOAN)
        due = int(await stage.readers[C].call("DevnetLender", lender, "dueOf", [owner.account()]))
        await stage.until("the loan is due", lambda: owner.head_time(C), 30, lambda time: time > due)
        before = await stage.readers[C].call("DevnetToken", token.address, "balanceOf", [lender])
        cash = await stage.readers[C].cash(owner.account())
        await owner.lender(C, "collect")
        after = await stage.readers[C].call("DevnetToken", token.address, "balanceOf", [lender])
        paid = (after - before) * 10 ** (18 - token.decimals)
        expect(paid == _LOAN, "500 USDC paid to the lender on C", usd(paid))
        left = await stage.readers[C].cash(owner.account())
        expect(cash - left == _LOAN, "out of the owner's cash, to the unit", usd(cash - left))
        stage.tell.say(
            f"not repaid: the lender on C claims {usd(_LOAN):,.2f} and is paid at once; the owner's collateral is on A",
            claimed=usd(_LOAN),
        )


async def settlement(stage: Stage) -> None:
    """i: cash goes to where it is owed, by at most two transfers a cycle."""
    async with stage.tell.step("i", "Cash is settled between the chains with the fewest transfers"):
        await stage.until(
            "all signed entries are applied and every shipment has arrived",
            lambda: _unsettled(stage),
            120,
            lambda left: left is not None and not any(left.values()),
        )
        entries = [entry for reader in stage.readers.values() for entry in await reader.logs("SettlementApplied")]
        shipped = [int(e["data"], 16) for reader in stage.readers.values() for e in await reader.logs("Shipped")]
        cycles = {int(entry["topics"][1], 16) for entry in entries}
        booked = [int.from_bytes(bytes.fromhex(e["data"][2:]), "big", signed=True) for e in entries if _own(e)]
        gross = sum(delta for delta in booked if delta > 0)
        expect(sum(booked) == 0, "the entries of all chains sum to zero", sum(booked))
        expect(bool(cycles) and gross > 0, "at least one cycle", cycles)
        netting: dict[str, Any] = await stage.get("/v1/netting")
        stage.tell.say(
            f"{len(cycles)} cycles moved {usd(gross):,.2f} between accounts' chains; {len(shipped)} transfers of "
            f"{sum(shipped) / 1e6:,.2f} USDC over the bridge; claims are zero again on every chain",
            cycles=len(cycles),
            moved=usd(gross),
            transfers=len(shipped),
        )
        margin = netting["margin"]
        stage.tell.say(
            f"netting now: exposure {netting['exposure']['efficiency']:.0%} less by netting, margin "
            f"{margin['efficiency']:.0%} less than position by position ({margin['capitalEfficiency']:.1f} times)",
            exposure=netting["exposure"]["efficiency"],
            margin=margin["efficiency"],
        )


def _own(entry: dict[str, Any]) -> bool:
    """Whether an applied leaf books cash: a shipment's account has no owner and a bit that no fund has."""
    return int(entry["topics"][2], 16) >> 64 != 1


async def _unsettled(stage: Stage) -> dict[str, float] | None:
    """By chain what its ledger still has to come from others, or owes them; None while entries wait."""
    batch = await stage.get("/v1/batches/latest")
    waiting = 0
    found: dict[str, float] = {}
    for chain, reader in stage.readers.items():
        house = stage.deployment.chains[chain].contracts.clearing_house
        for leaf in batch["content"]["settlements"]:
            if leaf["chainId"] == chain:
                account = bytes.fromhex(leaf["accountId"][2:])
                done = await reader.call("ClearingHouse", house, "isApplied", [int(leaf["cycle"]), account])
                waiting += not done
        claims = int(await reader.call("ClearingHouse", house, "claims", []))
        # What is smaller than the least transfer stays.
        found[stage.name(chain)] = usd(claims) if abs(claims) >= stage.deployment.profile.least_transfer else 0.0
    return None if waiting else found


async def _listed(stage: Stage) -> tuple[AssetId, AssetId]:
    """The first future on ETH with time enough to trade it, and the call of the same expiry."""
    now = await stage["hedger"].head_time(C)
    listed = sorted(parse_instrument(asset).expiry for asset in stage.deployment.instruments)
    expiry = next(each for each in listed if each >= now + _LEAST_SECONDS)
    future = Instrument(Kind.FUTURE, "ETH", expiry)
    return instrument_id(future), instrument_id(Instrument(Kind.CALL, "ETH", expiry, _STRIKE // 10**10))


async def _margin(stage: Stage, account: Any) -> float:
    answer = await stage.margin(account)
    assert answer is not None
    return float(answer["usd"]["initialMargin"])


async def _mark(stage: Stage, asset: AssetId) -> int:
    """The newest mark that chain B holds, to the cent."""
    proof = await stage["hedger"].client.mark_proof(asset, chain=B)
    return proof.leaf.price // 10**16 * 10**16


async def _prices(stage: Stage, *assets: AssetId) -> list[tuple[bool, int]]:
    house = stage.deployment.chains[B].contracts.clearing_house
    reader = stage.readers[B]
    return [await reader.call("ClearingHouse", house, "settlementPriceOf", [asset]) for asset in assets]


async def _open_positions(stage: Stage, *assets: AssetId) -> int:
    parties = (stage["hedger"].account(), stage["maker"].account())
    sizes = await asyncio.gather(*(stage.readers[B].position(p, a) for p in parties for a in assets))
    return sum(size != 0 for size in sizes)
