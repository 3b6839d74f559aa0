"""Chapters a to c: collateral on one chain, positions on two others, one margin, asked for on every chain."""

from __future__ import annotations

from keeper.client import Refused
from keeper.devnet.narrator import expect
from keeper.devnet.reader import usd
from keeper.devnet.wallet import together, trade
from keeper.state.actions import Reserve
from keeper.state.batch import UNIT
from keeper.state.ids import Address

from .stage import ETH, PRICE, USDC, A, B, C, Stage

_RESERVED = 4_000 * UNIT
_RESERVED_SECONDS = 3_600


async def deposits(stage: Stage) -> None:
    """a: everybody's collateral, most of it on chain A only, linked to the chains where they trade."""
    async with stage.tell.step(
        "a", "Collateral on chain A, linked to B and C; WETH held against a short shows as a hedge"
    ):
        stage.tell.doing("depositing and linking")
        owner, hedger, maker = stage["owner"], stage["hedger"], stage["maker"]
        liquidator, unhedged, isolated, racer = (stage[n] for n in ("liquidator", "unhedged", "isolated", "racer"))
        await together(
            _everywhere(stage, "owner", 6_000),
            _everywhere(stage, "unhedged", 6_000),
            _everywhere(stage, "liquidator", 30_000),
            _maker(stage),
            _hedger(stage),
            _isolated(stage),
            _racer(stage),
        )
        for wallet, equity in (
            (owner, 6_000),
            (unhedged, 6_000),
            (liquidator, 30_000),
            (racer, 1_000),
            (maker, 120_000),
        ):
            await stage.until_equity(wallet.account(), equity, 3)
        await stage.until_equity(isolated.account(), 5_000, 2)
        await stage.until_equity(isolated.account(1), 480, 1)
        cash = {stage.name(c): usd(await stage.readers[c].cash(owner.account())) for c in (A, B, C)}
        expect(cash == {"A": 6_000.0, "B": 0.0, "C": 0.0}, "the owner's 6,000 USDC on chain A only", cash)
        seen = await stage.until_margin(
            "the owner's chains are one account", owner.account(), lambda m: len(m["chains"]) == 3
        )
        stage.tell.say(
            "owner: 6,000 USDC on A, nothing on B and C; one margin account on all three, "
            f"equity {seen['usd']['equity']:,.2f}",
            owner_cash=cash,
            owner_equity=seen["usd"]["equity"],
        )

        before = await stage.until_margin(
            "the hedger's WETH is seen", hedger.account(), lambda m: m["usd"]["equity"] > 0
        )
        await trade(maker, hedger, B, ETH, -8 * UNIT, PRICE)
        after = await stage.until_margin(
            "the hedger's short is final", hedger.account(), lambda m: any(h["positions"] for h in m["holdings"])
        )
        standalone, required = after["explain"]["netting"]["standaloneSum"], after["usd"]["initialMargin"]
        expect(
            required < standalone / 4,
            f"less than a quarter of what WETH and short need apart ({standalone:,.2f} USD)",
            required,
        )
        stage.tell.say(
            f"hedger: 10 WETH on A, short 8 ETH on B: initial margin {required:,.2f}, "
            f"apart they would need {standalone:,.2f}",
            hedger_equity_before=before["usd"]["equity"],
            hedger_initial_margin=required,
            hedger_apart=standalone,
        )


async def netting(stage: Stage) -> None:
    """b: long on B, short on C: each leg's requirement alone, and both together."""
    async with stage.tell.step("b", "+5 ETH on B and −5 ETH on C are nothing at risk"):
        owner, maker = stage["owner"], stage["maker"]
        stage.tell.doing("matching +5 on B")
        await trade(maker, owner, B, ETH, 5 * UNIT, PRICE)
        one = await stage.until_margin(
            "the long on B is final", owner.account(), lambda m: m["usd"]["initialMargin"] > 0
        )
        stage.tell.doing("matching −5 on C")
        await trade(maker, owner, C, ETH, -5 * UNIT, PRICE)
        both = await stage.until_margin(
            "the short on C is final", owner.account(), lambda m: m["usd"]["initialMargin"] < 1
        )
        by_chain = both["nettingByChain"]["standalone"]
        sizes = {stage.name(c): await stage.readers[c].position(owner.account(), ETH) // UNIT for c in (B, C)}
        expect(sizes == {"B": 5, "C": -5}, "+5 on B and −5 on C, on chain", sizes)
        long_alone, short_alone, together_ = (
            by_chain[f"chain {B}"],
            by_chain[f"chain {C}"],
            both["usd"]["initialMargin"],
        )
        expect(abs(long_alone - one["usd"]["initialMargin"]) < 1, f"{long_alone:,.2f} for the long alone", one["usd"])
        expect(together_ < 0.01, "no initial margin for both", together_)
        fees = 6_000 - both["usd"]["equity"]
        stage.tell.say(f"alone: the long on B needs {long_alone:,.2f}, the short on C {short_alone:,.2f}")
        stage.tell.say(
            f"both:  {together_:,.2f}: one instrument at one mark, the sizes add up to zero in every scenario; "
            f"what remains is the {fees:,.2f} of fees paid",
            long_alone=long_alone,
            short_alone=short_alone,
            both=together_,
            fees=round(fees, 2),
        )


async def reservation(stage: Stage) -> None:
    """c: an integrator on every chain asks; margin reserved on C cannot be had again on B."""
    async with stage.tell.step("c", "Protocols on every chain ask, and hold margin that sits on another"):
        owner = stage["owner"]
        account = owner.account()
        stage.tell.doing("proving the owner's margin on every chain")
        for chain in (A, B, C):
            expect(
                not await stage.readers[chain].lender_sees_healthy(account),
                f"unknown is not healthy on {stage.name(chain)}",
                "healthy before anything was proven",
            )
        await together(*(owner.prove(chain) for chain in (A, B, C)))
        healthy = {stage.name(c): await stage.readers[c].lender_sees_healthy(account) for c in (A, B, C)}
        expect(all(healthy.values()), "the lender on every chain reads: healthy", healthy)
        stage.tell.say("the lender on A, on B and on C reads isHealthy: true", healthy=healthy)

        stage.tell.doing("reserving on C")
        until = await owner.head_time(C) + _RESERVED_SECONDS
        await owner.use(await owner.request(C, _reserve(stage, C, until)))
        held = await stage.readers[C].reserved(account, _lender(stage, C))
        expect(held == _RESERVED, "4,000 USD reserved on C", usd(held))
        try:
            await owner.request(B, _reserve(stage, B, until))
        except Refused as refused:
            problem = refused.problem
        else:
            expect(False, "the same margin refused on B", "a permit")
            return
        expect(problem.code == "insufficient_free_margin", "insufficient_free_margin", problem)
        stage.tell.say(f"reserved for the lender on C: {usd(held):,.2f}, the collateral is on A")
        stage.tell.say(
            f"asked again on B, refused: {problem.message}",
            reserved=usd(held),
            refusal=problem.to_json(),
        )


def _reserve(stage: Stage, chain: int, until: int) -> Reserve:
    return Reserve(stage["owner"].account(), _lender(stage, chain), _RESERVED, 0, until)


def _lender(stage: Stage, chain: int) -> Address:
    integrator = stage.deployment.chains[chain].integrator
    assert integrator is not None
    return integrator


async def _everywhere(stage: Stage, name: str, usdc: int) -> None:
    """Collateral on A, links on all three chains: a transaction on each."""
    wallet = stage[name]
    await together(wallet.deposit(A, "USDC", usdc * USDC, (B, C)), wallet.link(B, (A, C)), wallet.link(C, (A, B)))


async def _maker(stage: Stage) -> None:
    """The other side of every trade has cash on every chain."""
    others = {A: (B, C), B: (A, C), C: (A, B)}
    await together(*(stage["maker"].deposit(c, "USDC", 40_000 * USDC, links) for c, links in others.items()))


async def _hedger(stage: Stage) -> None:
    await together(stage["hedger"].deposit(A, "WETH", 10 * UNIT, (B,)), stage["hedger"].link(B, (A,)))


async def _isolated(stage: Stage) -> None:
    """A cross account on A and B, and sub-account 1 on B: isolated, with collateral of its own."""
    wallet = stage["isolated"]

    async def on_b() -> None:
        await wallet.link(B, (A,))
        await wallet.deposit(B, "USDC", 480 * USDC, (), 1)

    await together(wallet.deposit(A, "USDC", 5_000 * USDC, (B,)), on_b())


async def _racer(stage: Stage) -> None:
    """Five accounts of one owner, each with 1,000 USDC on B, linked to C: so many races run at once."""
    wallet = stage["racer"]

    async def on_b() -> None:
        for sub_account in range(RACERS):
            await wallet.deposit(B, "USDC", 1_000 * USDC, (C,) if sub_account else (A, C), sub_account)

    async def on_c() -> None:
        for sub_account in range(RACERS):
            await wallet.link(C, (B,) if sub_account else (A, B), sub_account)

    await together(on_b(), on_c(), wallet.link(A, (B, C)))


RACERS = 5
"""Accounts that race at the same time."""
