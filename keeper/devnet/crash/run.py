"""The run from the first deposit to the last check, narrated step by step."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from keeper.chain.rpc import Rpc
from keeper.devnet.chains import LIQUIDATORS, account
from keeper.devnet.cluster import Cluster
from keeper.devnet.launch import Devnet
from keeper.devnet.narrator import Narrator, StepFailed, expect
from keeper.devnet.processes import ROOT
from keeper.state.batch import UNIT
from keeper.state.deployment import Deployment, Profile
from keeper.state.ids import FUND, AssetId, account_id, is_token, parse_instrument

from .arrival import arrive, link
from .history import ChainHistory, gas_of, payments, read
from .market import Step, crash, recovery
from .outcome import Fate, cascade, fate_of, figures_of, latencies, quantiles, tally, usd
from .scenario import Deposit, Scenario
from .trading import Desk
from .watch import Sample, Watch

BIDDERS = 2
"""Nodes that bid for legs, against each other."""
CAPITAL = 1_500
"""USD of the bidders' on every chain, for each account of the population: not enough for everybody at once."""
FUND_CAPITAL = 300
"""USD of the fund on every chain, for each account."""
PROFILE = Profile(epoch_seconds=4, cycle_seconds=40, least_transfer=1_000 * UNIT, least_offset=500 * UNIT)
"""Six nodes share a small machine: twice the time for a batch, and cash is offset where it is worth it."""
CHECKER = ROOT / "scripts" / "check_chains.py"

_READY_SECONDS = 90
_SEEN_SECONDS = 40
_QUIET_SECONDS = 240
_QUIET_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: the population and the fall, per cent, within so many seconds."""

    scenario: Scenario
    near: int
    fall: float
    seconds: float


@dataclass
class Run:
    """One run on a devnet that is up; the nodes start once the population is there."""

    devnet: Devnet
    plan: Plan
    tell: Narrator
    figures: dict[str, Any] = field(default_factory=dict)
    rpcs: dict[int, Rpc] = field(default_factory=dict)

    @property
    def deployment(self) -> Deployment:
        return self.devnet.deployment

    @property
    def scenario(self) -> Scenario:
        return self.plan.scenario

    async def run(self, running: ExitStack) -> dict[str, Any]:
        """All steps; the nodes are ended by `running`. Raises StepFailed at the first fault."""
        self.rpcs = {c: Rpc(chain.rpc, timeout=30.0) for c, chain in self.deployment.chains.items()}
        watch: Watch | None = None
        try:
            await self._arrive()
            cluster = await asyncio.to_thread(Cluster.up, self.devnet.folder, liquidators=BIDDERS)
            running.enter_context(cluster)
            watch = Watch(cluster.keeper.url)
            await self._trade(cluster, watch)
            following = asyncio.create_task(watch.run())
            try:
                await self._before(watch)
                await self._move("fall", crash(self.plan.fall, self.plan.seconds), watch)
                await self._move("recovery", recovery(self.plan.fall, self.plan.seconds), watch)
                await self._quiet(watch)
            finally:
                following.cancel()
            await self._judge(watch)
            await self._check()
            return self.figures
        finally:
            if watch is not None:
                await watch.aclose()
            for rpc in self.rpcs.values():
                await rpc.aclose()

    # --- before ------------------------------------------------------------------------------------------------------

    async def _arrive(self) -> None:
        members = self.scenario.members
        owners = len({member.owner for member in members})
        async with self.tell.step("arrival", f"{len(members)} accounts of {owners} owners deposit and link"):
            self.tell.doing("depositing and linking")
            bidders = [account_id(account(key).address) for key in LIQUIDATORS[:BIDDERS]]
            shares = [(FUND, FUND_CAPITAL), *((bidder, CAPITAL // BIDDERS) for bidder in bidders)]
            others = [
                (name, Deposit(chain_id, "USDC", share * len(members)))
                for chain_id in self.deployment.chains
                for name, share in shares
            ]
            await arrive(self.deployment, self.rpcs, members, others)
            for key in LIQUIDATORS[:BIDDERS]:
                await link(self.deployment, self.rpcs, key)
            roles = {role: sum(m.role == role for m in members) for role in sorted({m.role for m in members})}
            self.figures["population"] = {
                "accounts": len(members),
                "owners": owners,
                "isolated": sum(m.sub_account > 0 for m in members),
                "roles": roles,
            }
            self.tell.say(", ".join(f"{count} {role}" for role, count in roles.items()), **self.figures["population"])

    async def _trade(self, cluster: Cluster, watch: Watch) -> None:
        scenario = self.scenario
        async with self.tell.step(
            "trading", f"{len(scenario.deals)} trades in {len(scenario.traded)} instruments, each with its permit"
        ):
            await self._until("a batch on every chain", lambda: _posted(watch), _READY_SECONDS)
            content = (await watch.get("/v1/batches/latest"))["content"]
            long, short = (
                {AssetId(bytes.fromhex(mark["asset"][2:])): int(mark[side]) for mark in content["marks"]}
                for side in ("longRequirement", "shortRequirement")
            )
            desk = Desk(self.deployment, self.rpcs, [node.url for node in cluster.attestors], cluster.keeper.url)
            self.tell.doing("trading")
            try:
                await desk.trade_all(scenario.members, scenario.deals, scenario.sizes(long, short))
            finally:
                await desk.aclose()
            traded = desk.traded
            self.figures["trading"] = {
                "instruments": len(scenario.traded),
                "matches": traded.matches,
                "askedAgain": len(traded.retries),
                "seconds": round(traded.seconds, 1),
                "permitSeconds": quantiles([round(each, 3) for each in traded.permit_seconds]),
            }
            self.tell.say(
                f"{traded.matches} matches in {traded.seconds:.0f} s, {len(traded.retries)} permits asked for again",
                **self.figures["trading"],
            )

    async def _before(self, watch: Watch) -> None:
        async with self.tell.step("before", "Everybody is healthy; what netting saves"):
            sample = await self._until("positions are in a batch", lambda: _newest(watch), _SEEN_SECONDS)
            histories = await self._histories()
            held = {asset for h in histories for sizes in h.state.sizes.values() for asset in sizes}
            open_interest = {asset for asset in held if not is_token(asset)}
            bare = [m.role for m in self.scenario.members if all(m.account_id not in h.state.sizes for h in histories)]
            expect(open_interest == self.scenario.traded, "open interest in every instrument", len(open_interest))
            expect(not bare, "a position of every account", bare)
            expect(sample.below == 0, "nobody below maintenance margin", sample.below)
            self.figures["netting"] = {"before": await self._netting(watch)}
            self._say_netting("before")

    # --- prices ------------------------------------------------------------------------------------------------------

    async def _move(self, name: str, steps: Sequence[Step], watch: Watch) -> None:
        title = (
            f"ETH falls by {self.plan.fall:g} % within {self.plan.seconds:g} s, the others with it"
            if name == "fall"
            else f"Prices come back within {self.plan.seconds:g} s"
        )
        async with self.tell.step(name, title):
            began, late = time.monotonic(), 0.0
            for step in steps:
                await asyncio.sleep(max(0.0, began + step.second - time.monotonic()))
                await asyncio.to_thread(self.devnet.move, step.answers)
                seconds = time.monotonic() - began
                late = max(late, seconds - step.second)
                sample = watch.last
                assert sample is not None
                self.tell.say(
                    f"{seconds:5.1f} s  ETH {step.answers['ETH'] / 1e8:,.2f}  below {sample.below}, negative "
                    f"{sample.negative}; legs {sample.legs}, for cash {sample.sales}, of the fund {sample.fund_legs}"
                )
            await asyncio.sleep(max(0.0, began + self.plan.seconds - time.monotonic()))
            last = dict(steps[-1].answers)
            self.figures.setdefault("prices", {})[name] = {n: last[n] / 1e8 for n in ("ETH", "BTC", "SOL")}
            self.tell.steps[-1].figures |= {"slowestStep": round(late, 1), "prices": self.figures["prices"][name]}

    async def _quiet(self, watch: Watch) -> None:
        async with self.tell.step("quiet", "Nobody is below maintenance margin, and what expired is settled"):
            limit = _QUIET_SECONDS + max(0.0, self.plan.near - time.time())
            began = time.monotonic()
            await self._until(
                "no account is below, no leg and no entry is open",
                lambda: _newest(watch),
                limit,
                lambda _: (
                    len(watch.samples) >= _QUIET_BATCHES and all(s.quiet for s in watch.samples[-_QUIET_BATCHES:])
                ),
            )
            await self._until("what expired is settled", self._expired_left, limit, lambda left: left == 0)
            sample = watch.samples[-1]
            self.figures["quiet"] = {
                "seconds": round(time.monotonic() - began),
                "unsold": sample.sales + sample.fund_legs,
            }
            self.tell.say(f"quiet after {self.figures['quiet']['seconds']} s", **self.figures["quiet"])

    async def _expired_left(self) -> int:
        """Positions in what has expired that are not settled; all of them until it has."""
        near = [a for a in self.scenario.instruments if parse_instrument(a).expiry == self.plan.near]
        return sum(
            asset in sizes for h in await self._histories() for sizes in h.state.sizes.values() for asset in near
        )

    # --- after -------------------------------------------------------------------------------------------------------

    async def _judge(self, watch: Watch) -> None:
        async with self.tell.step("outcome", "What became of every account"):
            histories = await self._histories()
            paid = payments(histories)
            leaves: dict[str, list[dict[str, Any]]] = {}
            for leaf in (await watch.get("/v1/batches/latest"))["content"]["accounts"]:
                leaves.setdefault(leaf["accountId"], []).append(leaf)
            fates = []
            for member in self.scenario.members:
                name = "0x" + member.account_id.hex()
                # With less than the minimum equity, and nothing required, there is no leaf.
                entries = leaves.get(name) or (await watch.get(f"/v1/accounts/{name}"))["marginAccounts"]
                fates.append(fate_of(member.account_id, member.role, figures_of(entries), histories, paid))
            self.figures["accounts"] = {
                "outcome": tally(fates),
                "byRole": {role: tally(f for f in fates if f.role == role) for role in sorted({f.role for f in fates})},
            }
            self.figures["netting"]["after"] = await self._netting(watch)
            await self._latency(watch, histories)
            self.figures["cascade"] = {**cascade(histories), "worst": watch.worst()}
            self.figures["settlement"] = _settlement(histories)
            gas: dict[str, list[int]] = {}
            for history, rpc in zip(histories, self.rpcs.values(), strict=True):
                for kind, used in (await gas_of(rpc, history)).items():
                    gas.setdefault(kind, []).extend(used)
            self.figures["gas"] = {k: {"median": int(median(v)), "count": len(v)} for k, v in sorted(gas.items())}
            self.figures["nodes"] = (await watch.get("/v1/status"))["latencies"]
            for name, count in self.figures["accounts"]["outcome"].items():
                self.tell.say(f"{count:4d}  {name}")
            self._say_netting("after")
            self.tell.steps[-1].figures |= {k: v for k, v in self.figures.items() if k not in ("population", "trading")}
            _expect_sound(fates)
            closed = sum(1 for history in histories for entry in history.closed if entry.account != FUND)
            expect(closed > 0, "a fall that closes somebody's position", closed)

    async def _latency(self, watch: Watch, histories: Sequence[ChainHistory]) -> None:
        """From the posting that first listed a leg to each of its fills, of accounts below maintenance margin."""
        await watch.complete(epoch for history in histories for _, epoch in history.posted)
        found: dict[str, Any] = {}
        every: list[tuple[int, int]] = []
        for history in histories:
            fills = [(blocks, seconds) for _, blocks, seconds in latencies(history, watch.legs)]
            chain = self.deployment.chains[history.state.chain_id]
            found[chain.name] = {
                "blockSeconds": chain.block_seconds,
                "blocks": quantiles([blocks for blocks, _ in fills]),
                "seconds": quantiles([seconds for _, seconds in fills]),
            }
            every += fills
        found["all"] = {
            "blocks": quantiles([blocks for blocks, _ in every]),
            "seconds": quantiles([seconds for _, seconds in every]),
        }
        self.figures["latency"] = found
        for name, each in found.items():
            blocks, waited = each["blocks"], each["seconds"]
            self.tell.say(
                f"{blocks['count']} fills on {name}: p50 {blocks['p50']} and p99 {blocks['p99']} blocks after the leg "
                f"was listed, {waited['p50']} and {waited['p99']} s"
            )

    async def _check(self) -> None:
        async with self.tell.step("check", "CM-20, 30, 31, 42, 50 at every block, by a script that reads only chains"):
            into = self.devnet.folder / "check.json"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CHECKER), str(self.devnet.deployments_file), "--json", str(into)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, errors = await process.communicate()
            expect(process.returncode == 0, "every block to hold", errors.decode().strip())
            self.figures["check"] = json.loads(await asyncio.to_thread(into.read_text))
            for line in output.decode().splitlines():
                self.tell.say(line)
            self.tell.steps[-1].figures["check"] = self.figures["check"]

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _histories(self) -> list[ChainHistory]:
        chains = self.deployment.chains
        return list(await asyncio.gather(*(read(self.rpcs[chain_id], chain) for chain_id, chain in chains.items())))

    async def _netting(self, watch: Watch) -> dict[str, Any]:
        answer: dict[str, Any] = await watch.get("/v1/netting?accounts=0&history=0")
        exposure, payments_, margin = answer["exposure"], answer["payments"], answer["margin"]
        return {
            "exposure": exposure["efficiency"],
            "grossUsd": usd(int(exposure["gross"])),
            "netUsd": usd(int(exposure["net"])),
            "value": payments_["value"]["efficiency"],
            "transfers": payments_["transfers"]["efficiency"],
            "margin": margin["efficiency"],
            "capitalEfficiency": margin["capitalEfficiency"],
            "portfolioUsd": usd(int(margin["portfolio"])),
        }

    def _say_netting(self, when: str) -> None:
        each = self.figures["netting"][when]
        self.tell.say(
            f"netting {when}: exposure {_percent(each['exposure'])} of {each['grossUsd']:,.0f} USD, "
            f"margin {_percent(each['margin'])}, payments {_percent(each['value'])} by value"
        )

    async def _until(
        self, what: str, ask: Callable[[], Awaitable[Any]], seconds: float, holds: Callable[[Any], bool] = bool
    ) -> Any:
        """Ask until the answer holds; StepFailed with the last answer after `seconds`."""
        self.tell.doing(f"waiting until {what}")
        limit = time.monotonic() + seconds
        while not holds(answer := await ask()):
            if time.monotonic() > limit:
                raise StepFailed(f"{what} within {seconds:.0f} s", answer)
            await asyncio.sleep(1.0)
        return answer


async def _posted(watch: Watch) -> bool:
    status = await watch.get("/v1/status")
    return all(chain.get("postedEpoch", -1) > 0 for chain in status["chains"].values())


async def _calm(watch: Watch) -> bool:
    newest = watch.samples[-_QUIET_BATCHES:]
    return len(newest) == _QUIET_BATCHES and all(sample.quiet for sample in newest)


async def _newest(watch: Watch) -> Sample | None:
    return watch.last


def _settlement(histories: Sequence[ChainHistory]) -> dict[str, Any]:
    """Cycles that moved cash between chains, and what was shipped for them."""
    entries = [entry for history in histories for entry in history.applied]
    moved = sum(delta for _, _, delta in entries if delta > 0)
    shipped = [amount for history in histories for amount in history.shipped]
    return {
        "cycles": len({cycle for cycle, _, _ in entries}),
        "entries": len(entries),
        "movedUsd": usd(moved),
        "transfers": len(shipped),
        "shippedUsd": usd(sum(shipped)),
        "settled": sum(history.settled for history in histories),
    }


def _expect_sound(fates: Sequence[Fate]) -> None:
    faults = [
        f"{fate.role} 0x{fate.account.hex()}: {fate.name}, equity {fate.equity / UNIT:,.2f}, "
        f"maintenance margin {fate.maintenance / UNIT:,.2f}"
        for fate in fates
        if not fate.sound
    ]
    expect(not faults, "every account healthy, closed or absorbed", "; ".join(faults))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
