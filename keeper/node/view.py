"""What this node sees of every chain: a follower per chain, each polled by its own task.

One slow chain never delays another. Whether a chain is late is judged by block times alone: its head against the
newest head of all chains. No wall clock enters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from keeper.chain.follower import DeepReorg, Follower
from keeper.chain.identity import Provider, WrongChain
from keeper.chain.rpc import RpcError, RpcUnavailable
from keeper.market.inputs import MarkInputs, UnderlyingInput
from keeper.market.marks import FeedReading, MarkError, price_from, vol_from
from keeper.market.settlement import Round, average, settlement_price
from keeper.state.batch import ChainCut
from keeper.state.deployment import PERPETUAL, VOL, Deployment
from keeper.state.ids import AccountId, parse_instrument
from keeper.state.world import World

from .config import NodeConfig

log = structlog.get_logger()

_POLL_SECONDS = (0.25, 1.0)
"""Half a block time, within these."""


_SETTLED_BLOCKS = 128
"""Attestors agree on cuts within far fewer blocks than this."""


class NotReady(Exception):
    """This node cannot judge yet or any more; the message says why and names the chain."""


@dataclass(frozen=True, slots=True)
class Lateness:
    chain_id: int
    reason: str


class ChainsView:
    """Followers of all chains of a deployment, and what they amount to together."""

    def __init__(self, deployment: Deployment, config: NodeConfig) -> None:
        self.deployment = deployment
        self._config = config
        self.rpcs: dict[int, Provider] = {}
        self.followers: dict[int, Follower] = {}
        self.errors: dict[int, str] = {}
        """Why the last look at a chain failed."""
        self.refused: set[int] = set()
        """Chains whose provider serves another chain or deployment: nothing it says counts."""
        for chain_id, chain in deployment.chains.items():
            section = config.chain(chain_id)
            self.rpcs[chain_id] = Provider(deployment, chain_id, section.rpc, section.timeout_seconds)
            self.followers[chain_id] = Follower(chain, self.rpcs[chain_id], finality=section.finality)
        self._changed = asyncio.Condition()
        self.settlements: dict[tuple[str, int], int] = {}
        """(underlying, expiry) → its settlement price from final data, USD 1e18."""
        dated = (parse_instrument(asset) for asset in deployment.instruments)
        self._unsettled = {(each.underlying, each.expiry) for each in dated}

    async def follow(self) -> None:
        """Poll every chain until cancelled. A reorganisation deeper than finality ends it with DeepReorg."""
        async with asyncio.TaskGroup() as tasks:
            for chain_id in self.followers:
                tasks.create_task(self._follow_chain(chain_id))

    async def _follow_chain(self, chain_id: int) -> None:
        block_seconds = self.deployment.chains[chain_id].block_seconds
        pause = min(max(block_seconds / 2, _POLL_SECONDS[0]), _POLL_SECONDS[1])
        while True:
            if await self.poll(chain_id):
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(pause)

    async def poll(self, chain_id: int) -> bool:
        """Poll one chain once; True where something is new. A provider's failure is remembered, not raised."""
        try:
            changed = await self._look(chain_id)
        except (RpcUnavailable, RpcError) as error:
            self._failed(chain_id, error)
            return False
        self.refused.discard(chain_id)
        if self.errors.pop(chain_id, None) is not None:
            log.info("chain.back", chain=chain_id)
        return changed

    async def _look(self, chain_id: int) -> bool:
        follower, provider = self.followers[chain_id], self.rpcs[chain_id]
        try:
            changed = await follower.poll()
        except DeepReorg:
            # Another chain behind the same address looks like this, and is no reason to end.
            provider.doubt()
            await provider.identify()
            raise
        if chain_id == self.deployment.settlement_chain and self._unsettled:
            changed |= await self._settle(follower)
        return changed

    def _failed(self, chain_id: int, error: RpcUnavailable | RpcError) -> None:
        if isinstance(error, WrongChain):
            if chain_id not in self.refused:
                log.error(
                    "chain.refused",
                    chain=chain_id,
                    provider=error.provider,
                    field=error.field,
                    got=error.got,
                    wanted=error.wanted,
                )
            self.refused.add(chain_id)
        elif chain_id not in self.errors:
            log.warning("chain.unreachable", chain=chain_id, reason=str(error))
        self.errors[chain_id] = str(error)

    async def _settle(self, follower: Follower) -> bool:
        """Average the feed for what has expired by the final block; True where a settlement price is new."""
        if not follower.started:
            return False
        due = sorted(key for key in self._unsettled if key[1] < follower.final.block.time)
        stable = self.deployment.chains[follower.chain.chain_id].settlement.symbol
        for underlying, expiry in due:
            start = expiry - self.deployment.profile.settlement_window
            averages = []
            try:
                for symbol in (underlying, stable):
                    rounds = [Round(*entry) for entry in await follower.rounds(symbol, start)]
                    averages.append(average(rounds, follower.feeds[symbol][1], start, expiry))
            except (MarkError, RpcError, RpcUnavailable) as error:
                # The chain is followed all the same; the next look tries again.
                log.warning("settlement.no_price", underlying=underlying, expiry=expiry, reason=str(error))
                return False
            self.settlements[(underlying, expiry)] = settlement_price(*averages)
            self._unsettled.discard((underlying, expiry))
        return bool(due)

    async def close(self) -> None:
        for rpc in self.rpcs.values():
            await rpc.aclose()

    async def wait(self, predicate: Callable[[], bool], seconds: float) -> bool:
        """Wait until `predicate` holds, checked at each change; False after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(predicate)
        except TimeoutError:
            return predicate()
        return True

    @property
    def started(self) -> bool:
        """Every chain was read at least once."""
        return all(follower.started for follower in self.followers.values())

    def require_started(self) -> None:
        """Raise NotReady where a chain was never read, naming all such and why."""
        unread = [entry.reason for entry in self.late() if not self.followers[entry.chain_id].started]
        if unread:
            raise NotReady("; ".join(unread))

    @property
    def newest_head_time(self) -> int:
        return max((f.head_block.time for f in self.followers.values() if f.started), default=0)

    def late(self) -> list[Lateness]:
        """Chains whose head is too far behind the newest one, or whose provider serves another, with the reason."""
        newest = self.newest_head_time
        found = []
        for chain_id, follower in self.followers.items():
            name, error = self.deployment.chains[chain_id].name, self.errors.get(chain_id)
            cause = f", provider: {error}" if error else ""
            if chain_id in self.refused and error:
                found.append(Lateness(chain_id, error))
                continue
            if not follower.started:
                found.append(Lateness(chain_id, f"chain {name} ({chain_id}): no block read yet{cause}"))
                continue
            behind = newest - follower.head_block.time
            if behind > self._config.late_after_seconds:
                found.append(Lateness(chain_id, f"chain {name} ({chain_id}): head is {behind} s behind{cause}"))
        return found

    def require_timely(self) -> None:
        """Raise NotReady naming every late chain: with one late, no permit and no leg is signed."""
        late = self.late()
        if late:
            raise NotReady("; ".join(entry.reason for entry in late))

    def final_world(self) -> World:
        """Every chain at its final block. Raises NotReady where one was never read."""
        self.require_started()
        return {chain_id: follower.final for chain_id, follower in self.followers.items()}

    def head_world(self) -> World:
        """Every chain at its head. Raises NotReady where one was never read."""
        self.require_started()
        return {chain_id: follower.head for chain_id, follower in self.followers.items()}

    def world_at(self, cut: Sequence[ChainCut]) -> World | None:
        """Holdings at the cut's blocks; None where a block is not (or no longer) known here, or another block is."""
        world: World = {}
        for entry in cut:
            state = self.followers[entry.chain_id].at(entry.number)
            if state is None or (state.block.hash, state.block.time) != (entry.block_hash, entry.time):
                return None
            world[entry.chain_id] = state
        return world

    def cut(self) -> tuple[ChainCut, ...]:
        """This node's own cut, now."""
        late = {entry.chain_id for entry in self.late()}
        return tuple(
            ChainCut(
                chain_id=chain_id,
                number=follower.final.block.number,
                block_hash=follower.final.block.hash,
                time=follower.final.block.time,
                head_number=follower.head_block.number,
                head_time=follower.head_block.time,
                late=chain_id in late,
            )
            for chain_id, follower in sorted(self.followers.items())
        )

    def long_applied(self, chain_id: int, account: AccountId, cycle: int) -> bool:
        """Whether a settlement leaf was applied so many final blocks ago that no cut names one from before."""
        follower = self.followers[chain_id]
        old = follower.at(follower.final.block.number - _SETTLED_BLOCKS) if follower.started else None
        return old is not None and (account, cycle) in old.applied

    @property
    def timely_head_time(self) -> int:
        """The newest head time among the chains that are not late."""
        late = {entry.chain_id for entry in self.late()}
        return max((f.head_block.time for c, f in self.followers.items() if f.started and c not in late), default=0)

    def observed(self, previous: MarkInputs | None) -> tuple[UnderlyingInput, ...]:
        """Every underlying, from the feeds at the heads of the chains that are not late.

        Where no feed says what a perpetual trades at it is the index; where none gives a vol, that of `previous`.

        Raises:
            NotReady: too few valid readings of an index; the message names what is missing.
        """
        late = {entry.chain_id for entry in self.late()}
        timely = {c: f for c, f in self.followers.items() if c not in late}
        readings = {c: {s: FeedReading(*reading) for s, reading in f.feeds.items()} for c, f in timely.items()}
        settlement = {c: self.deployment.chains[c].settlement.symbol for c in timely}
        times = {c: f.head_block.time for c, f in timely.items()}
        age = self._config.feed_max_age_seconds
        vols = {} if previous is None else {entry.underlying: entry.vol for entry in previous.underlyings}
        found = []
        for name in self.deployment.underlyings():
            try:
                index = price_from(readings, settlement, name, times, age)
            except MarkError as error:
                raise NotReady(str(error)) from None
            try:
                perpetual = price_from(readings, settlement, name + PERPETUAL, times, age)
            except MarkError:
                perpetual = index
            try:
                vol = vol_from(readings, name + VOL, times, age)
            except MarkError:
                vol = vols.get(name, 0)
            found.append(UnderlyingInput(name, index, perpetual, vol))
        return tuple(found)
