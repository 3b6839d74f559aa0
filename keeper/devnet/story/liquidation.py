"""Chapter f: prices fall; who is hedged is untouched, who is isolated fails alone, who is short of margin is closed."""

from __future__ import annotations

import asyncio

from keeper.devnet.narrator import expect
from keeper.devnet.reader import usd
from keeper.devnet.wallet import Wallet, trade
from keeper.state.batch import UNIT
from keeper.state.ids import FUND, AccountId

from .stage import ETH, PRICE, A, B, C, Stage

_FALL = -8.0


async def liquidations(stage: Stage) -> None:
    """f: a fall of 8 per cent."""
    async with stage.tell.step(
        "f", f"ETH moves by {_FALL:g} %: liquidation where the position is, collateral elsewhere"
    ):
        owner, unhedged, isolated, maker = (stage[n] for n in ("owner", "unhedged", "isolated", "maker"))
        stage.tell.doing("opening positions")
        await trade(maker, unhedged, B, ETH, 5 * UNIT, PRICE)
        await trade(maker, unhedged, C, ETH, 5 * UNIT, PRICE)
        await trade(maker, isolated, B, ETH, UNIT // 2, PRICE)
        await trade(maker, isolated, B, ETH, 8 * UNIT // 10, PRICE, 1)
        for wallet, sub_account in ((unhedged, 0), (isolated, 0), (isolated, 1)):
            await stage.until_margin(
                "the positions are final", wallet.account(sub_account), lambda m: m["usd"]["initialMargin"] > 100
            )
        before = {
            "owner": await _sizes(stage, owner.account()),
            "unhedged": await _sizes(stage, unhedged.account()),
            "cross": await _sizes(stage, isolated.account()),
            "isolated": await _sizes(stage, isolated.account(1)),
        }
        gross = {name: sum(map(abs, sizes.values())) for name, sizes in before.items()}
        expect(gross["owner"] == gross["unhedged"], "the same gross positions, hedged and not", gross)
        collateral = await _cash_on(stage, unhedged, A)

        was, now = await asyncio.to_thread(stage.devnet.shock, "ETH", _FALL)
        stage.tell.say(f"ETH {was / 1e8:,.2f} → {now / 1e8:,.2f} on every chain")
        await stage.until(
            "the unhedged and the isolated account are liquidated",
            lambda: _closed(stage, before, unhedged, isolated),
            60,
        )
        for wallet, sub_account in ((unhedged, 0), (isolated, 1)):
            await stage.until_margin(
                "what is left is healthy or closed",
                wallet.account(sub_account),
                lambda m: m["status"] == "healthy",
                60,
            )
        after = {
            "owner": await _sizes(stage, owner.account()),
            "unhedged": await _sizes(stage, unhedged.account()),
            "cross": await _sizes(stage, isolated.account()),
            "isolated": await _sizes(stage, isolated.account(1)),
        }
        expect(after["owner"] == before["owner"], "the hedged account untouched", after["owner"])
        expect(
            after["cross"] == before["cross"], "the isolated account's owner's cross account untouched", after["cross"]
        )
        left = await _cash_on(stage, unhedged, A)
        expect(0 < left <= collateral, "collateral on A, less only what settled its losses elsewhere", usd(left))
        await _show(stage, "unhedged", unhedged.account(), before["unhedged"], after["unhedged"])
        await _show(stage, "isolated sub-account", isolated.account(1), before["isolated"], after["isolated"])
        taken = await _conserved(stage)
        stage.tell.say(
            f"hedged owner, same gross {gross['owner'] / UNIT:g} ETH: untouched; "
            "cross account beside the isolated one: untouched"
        )
        await stage.until(
            "B holds a batch that says so",
            lambda: stage.get(f"/v1/accounts/0x{unhedged.account().hex()}/proof?chain={B}"),
            30,
            lambda proof: int(proof["leaf"]["equity"]) >= int(proof["leaf"]["initialMargin"]),
        )
        await unhedged.prove(B)
        equity, initial, _ = await stage.readers[B].proven(unhedged.account())
        expect(equity >= initial, "the unhedged account proven healthy on B again", (usd(equity), usd(initial)))
        stage.tell.say(
            f"unhedged account proven on B: equity {usd(equity):,.2f} ≥ initial margin {usd(initial):,.2f}",
            takeovers=taken,
            equity=usd(equity),
            initial_margin=usd(initial),
        )


async def _closed(stage: Stage, before: dict[str, dict[int, int]], unhedged: Wallet, isolated: Wallet) -> bool:
    first = await _sizes(stage, unhedged.account())
    second = await _sizes(stage, isolated.account(1))
    return first != before["unhedged"] and second != before["isolated"]


async def _sizes(stage: Stage, account: AccountId) -> dict[int, int]:
    """ETH position on B and C, as the contracts say."""
    return {chain: await stage.readers[chain].position(account, ETH) for chain in (B, C)}


async def _cash_on(stage: Stage, wallet: Wallet, chain: int) -> int:
    return await stage.readers[chain].cash(wallet.account())


async def _show(stage: Stage, name: str, account: AccountId, before: dict[int, int], after: dict[int, int]) -> None:
    for chain, size in before.items():
        if size != after[chain]:
            left = after[chain] / UNIT
            stage.tell.say(
                f"{name}: {size / UNIT:g} → {left:g} ETH on {stage.name(chain)}, collateral elsewhere"
                if account[20:] == bytes(12)
                else f"{name}: {size / UNIT:g} → {left:g} ETH on {stage.name(chain)}, alone",
                **{
                    name.replace(" ", "_").replace("-", "_"): {
                        "chain": stage.name(chain),
                        "before": size / UNIT,
                        "after": left,
                    }
                },
            )


async def _conserved(stage: Stage) -> int:
    """CM-42, read at the block before and the block of each take-over. Returns how many there were."""
    count = 0
    for chain in (B, C):
        taken = await stage.readers[chain].take_overs()
        count += len(taken)
        for entry in taken:
            stage.tell.say(
                f"  taken over on {stage.name(chain)}: {entry.size / UNIT:g} ETH at {entry.price / UNIT:,.2f}, "
                f"{entry.concession / UNIT:,.2f} off the mark, flat fee {entry.flat_fee / UNIT:.2f}"
            )
        for block in {entry.block for entry in taken}:
            here = [entry for entry in taken if entry.block == block]
            parties = {party for entry in here for party in (entry.account, entry.taker)} | {FUND}
            cash, sizes = await stage.readers[chain].changes(parties, ETH, block)
            expect(sum(cash.values()) == 0, f"cash of account, taker and fund unchanged in block {block}", cash)
            expect(sum(sizes.values()) == 0, f"sizes of account and taker unchanged in block {block}", sizes)
            for account in {entry.account for entry in here}:
                due = sum(e.lost for e in here if e.account == account)
                mark = next(e.mark for e in here if e.account == account)
                lost = -cash[account] - sizes[account] * mark // UNIT
                # Sizes and prices are rounded once each.
                expect(abs(lost - due) <= 2 * len(here), f"lost at the mark: concession and fee, {usd(due):,.2f}", lost)
    expect(count >= 2, "a take-over for each failed account", count)
    stage.tell.say("  what the accounts lost at the mark is concession and fee; takers and fund gained it, to the unit")
    return count
