"""Netting over HTTP: what netting saves at this node's final blocks, now and over the last batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Query, Response

from keeper import schema
from keeper.clearing.netting import Netted, NettingFigures, Requirements, UnderlyingNetting, netting_figures
from keeper.margin.listing import UnknownAsset
from keeper.market.marks import MarkError
from keeper.node.node import Node
from keeper.node.view import NotReady
from keeper.state.world import MarginAccount

from .document import answers
from .problems import json_response

log = structlog.get_logger()

HISTORY = 512
"""Samples kept: with one per batch and two seconds an epoch, a quarter of an hour."""
MOST_ACCOUNTS = 1_000
"""Accounts that one answer may list."""
_POLL_SECONDS = 0.5
_PAUSE = 9
"""Times the duration of a sample that is waited after it: at most a tenth of a core goes into figures nobody asks."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures at `finals`, this node's final block numbers by chain, when `epoch` was its newest batch (−1 for none);
    `time` is that of the marks, unix seconds."""

    epoch: int
    time: int
    finals: dict[int, int]
    figures: NettingFigures


class NettingRecorder:
    """Computes the figures, once for the same final blocks and batch, and remembers what they were batch by batch."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._newest: Sample | None = None
        self._lock = asyncio.Lock()
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    async def current(self) -> Sample:
        """The figures now. Computed beside the event loop, one at a time.

        Raises:
            NotReady: not every chain was read yet, or something held has no mark.
        """
        async with self._lock:
            node = self._node
            world = node.view.final_world()
            finals = {chain_id: state.block.number for chain_id, state in sorted(world.items())}
            newest = self._newest
            if newest is not None and (newest.epoch, newest.finals) == (self.epoch, finals):
                return newest
            epoch = self.epoch
            try:
                marks = node.observer.marks()
                figures = await asyncio.to_thread(netting_figures, world, node.listing, marks, node.model)
            except (MarkError, UnknownAsset) as error:
                raise NotReady(str(error)) from None
            self._newest = Sample(epoch, marks.time, finals, figures)
            if not self.history or self.history[-1]["epoch"] != epoch:
                self.history.append(_point(self._newest))
            return self._newest

    async def follow(self) -> None:
        """Take a sample of every new batch, as far as there is time for it, until cancelled."""
        sampled = -1
        while True:
            started = time.monotonic()
            if self.epoch != sampled:
                sampled = self.epoch
                try:
                    await self.current()
                except NotReady as reason:
                    log.info("netting.no_sample", epoch=sampled, reason=str(reason))
                except Exception:
                    # Figures are no reason for a keeper to stop: it would neither post nor settle nor liquidate.
                    log.exception("netting.failed", epoch=sampled)
            await asyncio.sleep(max(_POLL_SECONDS, _PAUSE * (time.monotonic() - started)))

    @property
    def epoch(self) -> int:
        """Of the newest quorum batch this node knows, −1 before the first."""
        latest = self._node.batches.latest
        return -1 if latest is None else latest.content.batch.epoch


def add_netting(app: FastAPI, node: Node) -> NettingRecorder:
    """Adds the route; whoever runs the application also runs the recorder's `follow`, for a history without gaps."""
    recorder = NettingRecorder(node)

    @app.get(
        "/v1/netting",
        summary="Exposure, margin and payments, gross and net; and the efficiencies over time",
        responses=answers(schema.NettingFigures, 422, 503),
    )
    async def netting(
        accounts: Annotated[int, Query(ge=0, le=MOST_ACCOUNTS)] = 20,
        history: Annotated[int, Query(ge=0, le=HISTORY)] = HISTORY,
    ) -> Response:
        sample = await recorder.current()
        names = {chain_id: chain.name for chain_id, chain in node.deployment.chains.items()}
        answer = answer_of(sample, names, accounts)
        answer["history"] = list(recorder.history)[-history:] if history else []
        return json_response(answer)

    return recorder


def answer_of(sample: Sample, names: dict[int, str], accounts: int) -> dict[str, Any]:
    """Amounts are strings of USD 1e18, units of an underlying of 1e18; ratios are numbers, null where there is nothing.

    `accounts` lists so many, those that netting saves most first.
    """
    figures = sample.figures
    chains = figures.chains
    ranked = sorted(figures.accounts.items(), key=lambda each: (-each[1].saved, each[0].account_id, each[0].chains))
    return {
        "epoch": sample.epoch,
        "time": sample.time,
        "finals": {str(chain_id): number for chain_id, number in sample.finals.items()},
        "exposure": _usd(figures.exposure),
        "underlyings": {name: _underlying(each) for name, each in figures.underlyings.items()},
        "chains": {
            str(chain_id): {
                "name": names[chain_id],
                "exposure": _usd(chains[chain_id]),
                "initialMargin": str(figures.chain_margin[chain_id]),
            }
            for chain_id in chains
        },
        "margin": _requirements(figures.margin),
        "payments": {
            "value": _netted(figures.payments.value),
            "transfers": {
                "gross": figures.payments.transfers.gross,
                "net": figures.payments.transfers.net,
                "efficiency": figures.payments.transfers.efficiency,
            },
        },
        "accountCount": len(figures.accounts),
        "accounts": [_account(account, each) for account, each in ranked[:accounts]],
    }


def _point(sample: Sample) -> dict[str, Any]:
    figures = sample.figures
    return {
        "epoch": sample.epoch,
        "time": sample.time,
        "exposure": figures.exposure.efficiency,
        "value": figures.payments.value.efficiency,
        "transfers": figures.payments.transfers.efficiency,
        "margin": figures.margin.netted.efficiency,
        "capitalEfficiency": figures.margin.capital_efficiency,
    }


def _netted(each: Netted) -> dict[str, Any]:
    return {"gross": str(each.gross), "net": str(each.net), "efficiency": each.efficiency}


def _usd(exact: Netted) -> dict[str, Any]:
    usd = UnderlyingNetting.usd
    return {"gross": str(usd(exact.gross)), "net": str(usd(exact.net)), "efficiency": exact.efficiency}


def _underlying(each: UnderlyingNetting) -> dict[str, Any]:
    def amount(exact: int) -> dict[str, str]:
        return {"usd": str(each.usd(exact)), "units": str(each.units(exact))}

    def netted(there: Netted) -> dict[str, Any]:
        return {"gross": amount(there.gross), "net": amount(there.net), "efficiency": there.efficiency}

    return {
        "index": str(each.index),
        **netted(each.accounts),
        "siloed": amount(each.siloed),
        "overall": amount(each.overall),
        "chains": {str(chain_id): netted(there) for chain_id, there in each.chains.items()},
    }


def _requirements(each: Requirements) -> dict[str, Any]:
    return {
        "isolated": str(each.isolated),
        "siloed": str(each.siloed),
        "portfolio": str(each.portfolio),
        "efficiency": each.netted.efficiency,
        "capitalEfficiency": each.capital_efficiency,
    }


def _account(account: MarginAccount, each: Requirements) -> dict[str, Any]:
    return {
        "accountId": "0x" + account.account_id.hex(),
        "chains": list(account.chains),
        **_requirements(each),
    }
