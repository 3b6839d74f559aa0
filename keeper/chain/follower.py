"""Following one chain: its state at final blocks, what the head would add, and its price feeds.

Two HTTP requests a poll at most, whatever the number of accounts: one for the heads, and one, only if they moved, for
headers, logs and feeds. The final state moves forward only, block by block, each linked to the one before by its
parent hash; the head is an overlay that is thrown away with every poll, so a reorganisation under finality needs no
rollback.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import structlog

from keeper.state.deployment import ChainDeployment
from keeper.state.world import BlockRef, ChainState

from .abi import decode_result, encode
from .events import Log, fold, topics_followed
from .identity import WrongChain, require_chain_id
from .rpc import Rpc, RpcError, understood

log = structlog.get_logger()

Finality = Literal["finalized", "safe"] | int
"""A block tag, or a depth in blocks below the head."""

Reading = tuple[int, int, int, bool]
"""A feed: answer, decimals, time of its update, and whether it answered at all."""

HISTORY = 256
"""Final states kept, to judge a cut that names one of them."""
_HEADERS = 64
"""Largest gap that is followed header by header; a larger one is backfilled by ranges of logs."""
_FIRST_RANGE = 2_000
_ROUNDS = 1_024
"""Rounds of a feed that are asked for first; four times as many while they do not reach back far enough."""
_GROWTH = 1.05


class DeepReorg(Exception):
    """A final block is not in the chain any more: nothing here can be trusted until a person has looked."""


class Follower:
    """One chain at one provider."""

    def __init__(self, chain: ChainDeployment, rpc: Rpc, finality: Finality = "finalized") -> None:
        self.chain = chain
        self.rpc = rpc
        self.finality = finality
        self.feeds: Mapping[str, Reading] = {}
        self.log_range = _FIRST_RANGE
        """Blocks asked for at once in a backfill: grows by 5 %, halves when the provider refuses."""
        self._history: OrderedDict[int, ChainState] = OrderedDict()
        self._final: ChainState | None = None
        self._head: ChainState | None = None
        contracts = chain.contracts
        followed = (contracts.verifier, contracts.clearing_house, contracts.vault, contracts.reservations)
        self._filter = {"address": ["0x" + a.hex() for a in followed], "topics": [topics_followed()]}
        self._feed_call = {
            "to": "0x" + contracts.lens.hex(),
            "data": "0x" + encode("MarginLens", "feeds", [list(chain.feeds.values())]).hex(),
        }

    @property
    def started(self) -> bool:
        """Whether the chain was read up to a final block at least once."""
        return self._head is not None

    @property
    def final(self) -> ChainState:
        assert self._final is not None, "poll first"
        return self._final

    @property
    def head(self) -> ChainState:
        """The final state with everything up to the head. Only ever a reason for more care."""
        assert self._head is not None, "poll first"
        return self._head

    @property
    def head_block(self) -> BlockRef:
        return self.head.block

    def at(self, number: int) -> ChainState | None:
        """The state at a recent final block; None where it is not final here yet, or too old."""
        return self._history.get(number)

    async def rounds(self, symbol: str, since: int) -> list[tuple[int, int]]:
        """Answers of a feed and their times, newest first, back to the one in force at `since` (unix seconds), as the
        final block has them.

        Raises:
            RpcUnavailable, RpcError: as `poll`.
        """
        block, most = {"blockHash": "0x" + self.final.block.hash.hex()}, _ROUNDS
        while True:
            data = encode("MarginLens", "rounds", [self.chain.feeds[symbol], since, most])
            call = {"to": "0x" + self.chain.contracts.lens.hex(), "data": "0x" + data.hex()}
            with understood(self.rpc):
                answer = await self.rpc.call("eth_call", [call, block])
                (listed,) = decode_result("MarginLens", "rounds", bytes.fromhex(answer[2:]))
                found = [(int(value), int(time)) for value, time in listed]
            # A list that was cut off would be another one, and another price, for who looks at another block.
            if len(found) < most or found[-1][1] <= since:
                return found
            most *= 4

    async def poll(self) -> bool:
        """Look once; True where something is new.

        Raises:
            RpcUnavailable, RpcError: this look failed, or the provider answered nonsense; what is known stays.
            WrongChain: the provider has become one of another chain.
        DeepReorg: a final block was replaced.
        """
        with understood(self.rpc):
            return await self._look()

    async def _look(self) -> bool:
        final, head = await self._heads()
        if final.number < self.chain.deploy_block:
            return False
        if self._final is None:
            await self._begin()
        if final.number < self.final.block.number or (self._head and head.number < self._head.block.number):
            log.debug("provider.lagging", chain=self.chain.chain_id, head=head.number)
            return False
        if final.number == self.final.block.number and final.hash != self.final.block.hash:
            raise self._deep(final.number, final.hash)
        if self._head is not None and head.hash == self._head.block.hash and final.hash == self.final.block.hash:
            return False
        if final.number - self.final.block.number > _HEADERS:
            await self._backfill(final)
        await self._advance(final, head)
        return True

    async def _heads(self) -> tuple[BlockRef, BlockRef]:
        """The final block and the head, of this chain: behind one address another one may stand by now."""
        tags = ["latest"] if isinstance(self.finality, int) else [self.finality, "latest"]
        requests: list[tuple[str, Sequence[Any]]] = [("eth_getBlockByNumber", [tag, False]) for tag in tags]
        chain_id, *blocks = await self.rpc.batch([("eth_chainId", []), *requests])
        try:
            require_chain_id(self.chain, self.rpc.name, chain_id)
        except WrongChain:
            self.rpc.doubt()
            raise
        head = _block(blocks[-1])
        if isinstance(self.finality, int):
            number = hex(max(0, head.number - self.finality))
            return _block(await self.rpc.call("eth_getBlockByNumber", [number, False])), head
        return _block(blocks[0]), head

    async def _begin(self) -> None:
        number = max(0, self.chain.deploy_block - 1)
        block = _block(await self.rpc.call("eth_getBlockByNumber", [hex(number), False]))
        self._remember(ChainState(self.chain.chain_id, block))

    async def _backfill(self, final: BlockRef) -> None:
        """Catch up by ranges of logs to near the final block; the rest goes header by header."""
        while (start := self.final.block.number + 1) <= final.number - _HEADERS:
            end = min(start + self.log_range - 1, final.number - _HEADERS)
            try:
                logs, last = await self.rpc.batch(
                    [("eth_getLogs", [self._range(start, end)]), ("eth_getBlockByNumber", [hex(end), False])]
                )
            except RpcError:
                if self.log_range == 1:
                    raise
                self.log_range = max(1, (end - start + 1) // 2)
                continue
            if end - start + 1 == self.log_range:  # A shorter last range says nothing about a longer one.
                self.log_range = int(self.log_range * _GROWTH) + 1
            self._remember(fold(self.final, logs, _block(last)))

    async def _advance(self, final: BlockRef, head: BlockRef) -> None:
        """Take in the blocks up to `final`, then lay the head over them and read the feeds there."""
        begin = self.final.block
        numbers = range(begin.number + 1, final.number + 1)
        requests: list[tuple[str, Sequence[Any]]] = [("eth_getBlockByNumber", [hex(n), False]) for n in numbers]
        requests.append(("eth_getLogs", [self._range(begin.number + 1, head.number)]))
        requests.append(("eth_call", [self._feed_call, {"blockHash": "0x" + head.hash.hex()}]))
        *headers, logs, feeds = await self.rpc.batch(requests)
        state = self.final
        by_block: dict[int, list[Log]] = {}
        for entry in logs:
            by_block.setdefault(int(entry["blockNumber"], 16), []).append(entry)
        states = []
        for block in map(_block, headers):
            if block.parent_hash != state.block.hash:
                await self._explain_gap(state.block)
                return
            if any(entry["blockHash"] != "0x" + block.hash.hex() for entry in by_block.get(block.number, ())):
                return  # The blocks changed between the two answers: look again.
            state = fold(state, by_block.pop(block.number, ()), block)
            states.append(state)
        # All is understood before anything is kept: a malformed part leaves the whole look without effect.
        overlay = fold(state, [entry for n in sorted(by_block) for entry in by_block[n]], head)
        readings = self._readings(feeds)
        for new in states:
            self._remember(new)
        self._head, self.feeds = overlay, readings

    async def _explain_gap(self, known: BlockRef) -> None:
        """A block's parent is not the last final one: that one is gone, or the provider answered from two chains."""
        now = _block(await self.rpc.call("eth_getBlockByNumber", [hex(known.number), False]))
        if now.hash != known.hash:
            raise self._deep(known.number, now.hash)

    def _deep(self, number: int, found: bytes) -> DeepReorg:
        return DeepReorg(
            f"chain {self.chain.name} ({self.chain.chain_id}): "
            f"final block {number} was 0x{self.final.block.hash.hex()}, the provider now says 0x{found.hex()}: "
            f"deeper than finality ({self.finality})"
        )

    def _range(self, start: int, end: int) -> dict[str, Any]:
        return self._filter | {"fromBlock": hex(start), "toBlock": hex(max(start, end))}

    def _readings(self, data: str) -> dict[str, Reading]:
        (views,) = decode_result("MarginLens", "feeds", bytes.fromhex(data[2:]))
        return {
            symbol: (answer, decimals, updated_at, ok)
            for symbol, (ok, answer, updated_at, decimals) in zip(self.chain.feeds, views, strict=True)
        }

    def _remember(self, state: ChainState) -> None:
        self._final = state
        self._history[state.block.number] = state
        while len(self._history) > HISTORY:
            self._history.popitem(last=False)


def _block(data: Any) -> BlockRef:
    if data is None:
        raise RpcError("eth_getBlockByNumber", 0, "no such block")
    return BlockRef(
        number=int(data["number"], 16),
        hash=bytes.fromhex(data["hash"][2:]),
        parent_hash=bytes.fromhex(data["parentHash"][2:]),
        time=int(data["timestamp"], 16),
    )
