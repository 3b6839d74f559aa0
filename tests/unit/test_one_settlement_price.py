"""CM-13: one settlement price for an instrument, to the last digit, and unsigned inputs stop nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import attestors
import pytest
from attestors import Direct, Panel, run, see
from worlds import NOW, PARAMETERS, Chains, usd

from keeper.attest.batch import BatchContent, batch_digest, with_roots
from keeper.attest.messages import BatchProposal, QuorumBatch
from keeper.attest.signatures import join_signatures
from keeper.margin.listing import Listing
from keeper.margin.xpm import Xpm
from keeper.market.inputs import SettledInput
from keeper.node.peers import Peers
from keeper.node.proposer import Proposer
from keeper.node.refusal import Refused
from keeper.state.ids import Instrument, Kind, instrument_id

EXPIRY = NOW - 100
FUTURE = instrument_id(Instrument(Kind.FUTURE, "ETH", EXPIRY))
PANEL = replace(attestors.PANEL, instruments=(FUTURE,))
LISTING = Listing.of(PANEL)


@pytest.fixture(autouse=True)
def dated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attestors, "PANEL", PANEL)
    monkeypatch.setattr(attestors, "LISTING", LISTING)
    monkeypatch.setattr(attestors, "MODEL", Xpm(PARAMETERS, LISTING))


def seen(panel: Panel, time: int) -> None:
    for attestor in panel.attestors:
        see(attestor, time, Chains())
        attestor.view.settlements[("ETH", EXPIRY)] = usd(3000)


def turn(panel: Panel, time: int):
    return next(a for a in panel.attestors if a.signer.address == a.proposer_of(time // 2))


def built(panel: Panel, time: int) -> BatchContent:
    own = turn(panel, time)
    return Proposer(own, own.view, own.batches, Peers({})).build()


async def signatures(panel: Panel, time: int, content: BatchContent) -> dict[bytes, bytes]:
    digest = batch_digest(PANEL, content.batch)
    proposal = BatchProposal(content, turn(panel, time).signer.sign(digest))
    found = {}
    for each in panel.attestors:
        with suppress(Refused):
            found[each.signer.address] = await each.sign_proposed_batch(proposal)
    return found


def price(content: BatchContent) -> int:
    return next(leaf.price for leaf in content.marks if leaf.asset == FUTURE and leaf.settled_at == EXPIRY)


def test_two_prices_are_not_signed(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        seen(panel, NOW)
        content = built(panel, NOW)
        lie = tuple(replace(m, price=m.price + 3 * 10**12) if m.asset == FUTURE else m for m in content.marks)
        content = replace(content, marks=lie)
        content = replace(content, batch=with_roots(content))
        first = await signatures(panel, NOW, content)
        seen(panel, NOW + 2)
        honest = built(panel, NOW + 2)
        second = await signatures(panel, NOW + 2, honest)
        both = first.keys() & second.keys()
        assert not both, f"{len(both)} attestors signed {price(content)} and {price(honest)} for one instrument"

    run(tmp_path, work)


def test_inputs_that_nobody_signed_do_not_stop_all_batches(tmp_path: Path) -> None:
    """One liar collects an honest quorum, and tells each attestor other inputs with it."""

    async def work(panel: Panel) -> None:
        seen(panel, NOW)
        content = built(panel, NOW)
        found = await signatures(panel, NOW, content)
        quorum = QuorumBatch(content, join_signatures(batch_digest(PANEL, content.batch), found))
        for number, each in enumerate(panel.attestors):
            told = tuple(SettledInput(e.asset, e.price + number * 10**10) for e in content.inputs.settled)
            try:
                each.batches.add(
                    replace(quorum, content=replace(content, inputs=replace(content.inputs, settled=told)))
                )
            except ValueError:
                each.batches.add(quorum)
        found = []
        for time in range(NOW + 2, NOW + 10, 2):
            seen(panel, time)
            own = turn(panel, time)
            proposer = Proposer(own, own.view, own.batches, Direct([e for e in panel.attestors if e is not own]))
            found.append("signed" if await proposer.propose() else proposer.failure)
        assert "signed" in found, found

    run(tmp_path, work)
