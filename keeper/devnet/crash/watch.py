"""Watching the nodes' batches while prices move: who is below, what is listed, how deep it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from keeper.devnet.processes import DevnetError
from keeper.state.batch import UNIT
from keeper.state.ids import FUND

_POLL_SECONDS = 0.7
_TIMEOUT_SECONDS = 20.0

LegKey = tuple[int, bytes, bytes]
"""Chain, account, asset."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One batch: accounts below maintenance margin, with negative equity, what these lack (USD); legs of accounts below
    maintenance margin, of sound ones that sell collateral for cash they owe (`sales`), and of the fund's inventory;
    settlement entries that are not applied."""

    epoch: int
    below: int
    negative: int
    deficit: float
    legs: int
    sales: int
    fund_legs: int
    entries: int

    @property
    def quiet(self) -> bool:
        """Nobody to close, nothing to settle; what the fund took and sound accounts' collateral may be on offer."""
        return not (self.below or self.legs or self.entries)


@dataclass
class Watch:
    """Follows the newest batch of a node."""

    url: str
    samples: list[Sample] = field(default_factory=list)
    legs: dict[int, frozenset[LegKey]] = field(default_factory=dict)
    """Of accounts below maintenance margin, of every batch seen, by epoch."""
    _http: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)
    )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """The node's JSON; None where there is no content. Raises DevnetError for no answer, or an error as answer."""
        try:
            response = await self._http.get(self.url + path)
        except httpx.HTTPError as error:
            raise DevnetError(f"{self.url}{path}: {error!r}") from None
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        answer = orjson.loads(response.content)
        if response.status_code != httpx.codes.OK:
            raise DevnetError(f"{self.url}{path}: {answer}")
        return answer

    async def run(self) -> None:
        """Take a sample of every new batch, until cancelled; an answer that does not come is asked for again."""
        while True:
            try:
                await self.look()
            except DevnetError:
                pass  # under load a node may be slow to answer; whoever waits for a sample has a bound of his own
            await asyncio.sleep(_POLL_SECONDS)

    async def look(self) -> None:
        newest = self.samples[-1].epoch if self.samples else -1
        answer = await self.get(f"/v1/batches/latest?after={newest}")
        if answer is not None:
            self.samples.append(sample_of(answer["content"]))
            self.legs[self.samples[-1].epoch] = legs_of(answer["content"])

    async def complete(self, epochs: Iterable[int]) -> None:
        """Fetch the batches of these epochs that were not seen."""
        for epoch in sorted(set(epochs) - self.legs.keys()):
            self.legs[epoch] = legs_of((await self.get(f"/v1/batches/{epoch}"))["content"])

    @property
    def last(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def worst(self) -> dict[str, Any]:
        """The greatest figures of all batches seen."""
        names = ("below", "negative", "deficit", "legs", "sales")
        return {name: max((getattr(each, name) for each in self.samples), default=0) for name in names}


def sample_of(content: dict[str, Any]) -> Sample:
    """From a batch's content as JSON."""
    # An account has a leaf of the same figures on each of its chains.
    figures = {leaf["accountId"]: (int(leaf["equity"]), int(leaf["maintenanceMargin"])) for leaf in content["accounts"]}
    fund = "0x" + FUND.hex()
    below = {name for name, (equity, maintenance) in figures.items() if equity < maintenance}
    of_fund = sum(leg["accountId"] == fund for leg in content["legs"])
    of_below = sum(leg["accountId"] in below for leg in content["legs"])
    return Sample(
        epoch=content["batch"]["epoch"],
        below=len(below),
        negative=sum(equity < 0 for equity, _ in figures.values()),
        deficit=-sum(min(0, equity) for equity, _ in figures.values()) / UNIT,
        legs=of_below,
        sales=len(content["legs"]) - of_below - of_fund,
        fund_legs=of_fund,
        entries=len(content["settlements"]),
    )


def legs_of(content: dict[str, Any]) -> frozenset[LegKey]:
    """The legs in a batch's content, as JSON, of accounts below maintenance margin: sales for cash wait for a price."""
    below = {leaf["accountId"] for leaf in content["accounts"] if int(leaf["equity"]) < int(leaf["maintenanceMargin"])}
    legs = [leg for leg in content["legs"] if leg["accountId"] in below]
    return frozenset((leg["chainId"], _bytes(leg["accountId"]), _bytes(leg["asset"])) for leg in legs)


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value[2:])
