"""Chapter d: the race that a view would lose, and permits that are not what a quorum signed."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

from keeper.chain.abi import Revert
from keeper.client import Refused, Reverted, SignedPermit, withdraw_call
from keeper.devnet.narrator import expect
from keeper.state.actions import Reserve, Withdraw
from keeper.state.batch import UNIT

from .margin import RACERS
from .stage import USDC, A, B, C, Stage

_ROUNDS = 10
_ASKED = 700 * UNIT
_RACE_SECONDS = 4
"""Validity of the permits in a race: short, so that the margin is soon free again."""


async def race(stage: Stage) -> None:
    """d: two requests at two attestors for margin that suffices for one, on two chains."""
    async with stage.tell.step("d", f"The race: one margin, two chains, two attestors at once, {_ROUNDS} rounds"):
        choose = random.Random(7)
        outcomes: list[dict[str, Any]] = []
        while len(outcomes) < _ROUNDS:
            accounts = range(min(RACERS, _ROUNDS - len(outcomes)))
            stage.tell.doing(f"racing, {len(outcomes)} of {_ROUNDS} rounds done")
            for sub_account in accounts:
                await stage.until_everyone_sees(stage["racer"].account(sub_account), lambda m: m["usd"]["equity"] > 999)
                await _nothing_live(stage, sub_account)
            pairs = [choose.sample(stage.cluster.attestors, 2) for _ in accounts]
            outcomes += await asyncio.gather(
                *(
                    _round(stage, sub, first.url, second.url)
                    for sub, (first, second) in zip(accounts, pairs, strict=True)
                )
            )
        for sub_account in range(RACERS):
            await _nothing_live(stage, sub_account)
        signed = [outcome["signed"] for outcome in outcomes]
        expect(max(signed) <= 1, "never both signed", outcomes)
        expect(sum(signed) >= _ROUNDS // 2, "one signed in most rounds", outcomes)
        refusals = [refusal for outcome in outcomes for refusal in outcome["refused"]]
        expect(
            all(r["code"] in ("insufficient_free_margin", "no_quorum", "missing_items") for r in refusals),
            "every refusal says why",
            refusals,
        )
        stage.tell.say(f"{_ROUNDS} rounds: one signed in {sum(signed)}, both in none; the refused one sees why:")
        shown = next((r for r in refusals if r["code"] == "insufficient_free_margin"), refusals[0])
        stage.tell.say(f"  {shown['message']}", rounds=_ROUNDS, signed=sum(signed), both=0, refusal=shown)
        await _again_free(stage)


async def _round(stage: Stage, sub_account: int, first: str, second: str) -> dict[str, Any]:
    racer = stage["racer"]

    async def ask(chain: int, node: str) -> SignedPermit | Refused:
        integrator = stage.deployment.chains[chain].integrator
        assert integrator is not None
        until = await racer.head_time(chain) + 600
        try:
            action = Reserve(racer.account(sub_account), integrator, _ASKED, 0, until)
            return await racer.submit(await racer.client.request(chain, action, deadline=_RACE_SECONDS), node)
        except Refused as refused:
            return refused

    answers = await asyncio.gather(ask(B, first), ask(C, second))
    return {
        "signed": sum(isinstance(answer, SignedPermit) for answer in answers),
        "refused": [answer.problem.to_json() for answer in answers if isinstance(answer, Refused)],
    }


async def _nothing_live(stage: Stage, sub_account: int) -> None:
    """Wait until every attestor counts the account's unused permits as dead: a final block is past their deadline."""
    account = stage["racer"].account(sub_account)
    for node in stage.cluster.attestors:
        await stage.until(
            f"{node.name} counts the unused permit as dead",
            lambda node=node: stage.get(f"/v1/accounts/0x{account.hex()}", node),  # type: ignore[misc]
            30,
            lambda found: isinstance(found, dict) and found.get("live") == [],
        )


async def _again_free(stage: Stage) -> None:
    racer = stage["racer"]
    integrator = stage.deployment.chains[B].integrator
    assert integrator is not None
    until = await racer.head_time(B) + 600
    signed = await racer.request(B, Reserve(racer.account(), integrator, _ASKED, 0, until))
    await racer.use(signed)
    held = await stage.readers[B].reserved(racer.account(), integrator)
    expect(held == _ASKED, "700 USD reserved once the winners had expired", held / UNIT)
    stage.tell.say(
        "the winners expired unused, and their margin was free again: 700 reserved on B", reserved=held // UNIT
    )


async def permits(stage: Stage) -> None:
    """d, continued: a withdrawal succeeds; a permit altered, replayed, expired, short or carried over does not."""
    async with stage.tell.step("d2", "A withdrawal within free margin; permits that are not what was signed"):
        owner = stage["owner"]
        reader = stage.readers[A]
        before = await reader.cash(owner.account())
        action = Withdraw(owner.account(), stage.deployment.chains[A].settlement.address, 1_000 * USDC, owner.address)
        stage.tell.doing("withdrawing")
        expiring = await owner.request(
            B, replace(action, token=stage.deployment.chains[B].settlement.address, amount=1), seconds=3
        )
        signed = await owner.request(A, action)
        short = replace(signed, signatures=signed.signatures[: 2 * 65])
        permit = signed.item.permit
        longer = _altered(signed, permit=replace(permit, deadline=permit.deadline + 1))
        found = {
            "amount altered": await _revert(stage, _altered(signed, action=replace(action, amount=1_001 * USDC))),
            "deadline altered": await _revert(stage, longer),
            "one signature short": await _revert(stage, short),
            "carried to chain B": await _revert(stage, _altered(signed, chain_id=B)),
        }
        await owner.use(signed)
        after = await reader.cash(owner.account())
        expect(before - after == 1_000 * UNIT, "1,000 USDC less on chain A", (before - after) / UNIT)
        stage.tell.say("1,000 USDC withdrawn on A by permit", withdrawn=(before - after) // UNIT)
        found["replayed"] = await _revert(stage, signed)

        async def past_deadline() -> bool:
            return (await stage.readers[B].head())[1] > expiring.item.permit.deadline

        await stage.until("the short permit's deadline has passed", past_deadline, 30)
        found["expired"] = await _revert(stage, expiring)
        wanted = {
            "amount altered": "ActionMismatch",
            "deadline altered": "ForeignDigest",
            "one signature short": "BelowThreshold",
            "carried to chain B": "ForeignDigest",
            "replayed": "NonceAlreadyUsed",
            "expired": "PermitExpired",
        }
        names = {case: revert.name for case, revert in found.items()}
        expect(names == wanted, str(wanted), names)
        for case, revert in found.items():
            stage.tell.say(f"permit {case}: {revert.name}")
        stage.tell.steps[-1].figures["refusals"] = {case: str(revert) for case, revert in found.items()}


def _altered(signed: SignedPermit, **changes: Any) -> SignedPermit:
    """Another withdrawal under the same signatures."""
    return replace(signed, item=replace(signed.item, **changes))


async def _revert(stage: Stage, permit: SignedPermit) -> Revert:
    """How a withdrawal by the owner reverts; nothing is sent."""
    client = stage["owner"].client
    try:
        await client.simulate(withdraw_call(stage.deployment, permit))
    except Reverted as reverted:
        return reverted.revert
    return Revert("Accepted", {})
