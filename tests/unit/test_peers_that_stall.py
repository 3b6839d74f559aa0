"""Peers that answer slowly, too late, too early or nonsense cost a node one answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import attestors
import pytest
from attestors import PANEL, SIGNERS, Direct, Panel, run, see
from test_preview import below, draft_of, proposer_of
from worlds import ETH, NOW, OTHER, OWNER, A, Chains

from keeper.attest.batch import batch_digest, build_batch, reports_at
from keeper.attest.codec import keccak
from keeper.attest.messages import BatchProposal
from keeper.attest.signing import LocalSigner
from keeper.market.inputs import marks_of
from keeper.node.peers import Peers, PeerUnavailable
from keeper.node.permits import Declined, PermitClient
from keeper.node.preview import refused_legs
from keeper.node.proposer import Proposer
from keeper.node.refusal import Refused
from keeper.state.actions import Takeover
from keeper.state.ids import account_id


def test_a_peer_that_never_ends_its_answer_is_not_waited_for() -> None:
    done, ended = asyncio.Event(), asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            while not done.is_set():
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    async def work() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        peer = SIGNERS[0].address
        peers = Peers({peer: f"http://127.0.0.1:{port}"}, seconds=0.5)
        try:
            async with asyncio.timeout(4):
                answers = await peers.gather(lambda each: peers.live(each, []))
        except TimeoutError:
            raise AssertionError("eight times as long as an answer is waited for, and it would be for ever") from None
        assert isinstance(answers[peer], PeerUnavailable)
        await peers.close()
        done.set()
        await ended.wait()
        server.close()

    asyncio.run(work())


KEY = keccak(b"a liquidator")
OWN = account_id(LocalSigner(KEY).address)


class Liar(Peers):
    answer: ClassVar[dict[str, Any]] = {}

    async def request_permit(self, peer, item, *, forwarded):
        return 200, self.answer


@pytest.mark.parametrize("answer", [{}, {"item": {}, "signatures": "0x"}, {"item": None, "signatures": 7}])
def test_nonsense_is_no_answer(answer: dict[str, Any]) -> None:
    """What `ask` raises beside Declined and PeerUnavailable ends the bid's task, and with it the node."""

    async def work() -> None:
        peers = Liar({SIGNERS[0].address: "http://127.0.0.1:0"})
        peers.answer = answer
        client = PermitClient(PANEL, peers, LocalSigner(KEY))
        item = client.signed(A, Takeover(OWN, OTHER, ETH, 10**18), NOW + 10)
        with pytest.raises((Declined, PeerUnavailable)):
            await client.ask(item)
        await peers.close()

    asyncio.run(work())


@pytest.mark.parametrize("epoch_seconds", [2, 12])
def test_one_silent_attestor_does_not_hold_off_every_liquidation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch_seconds: int
) -> None:
    profile = replace(attestors.PANEL.profile, epoch_seconds=epoch_seconds)
    monkeypatch.setattr(attestors, "PANEL", replace(attestors.PANEL, profile=profile))

    async def work(panel: Panel) -> None:
        for attestor in panel.attestors:
            see(attestor, NOW, below(OWNER))
        epoch = NOW // epoch_seconds
        own = next(each for each in panel.attestors if each.signer.address == each.proposer_of(epoch))
        waited = Peers({}, profile.epoch_seconds).preview_seconds  # as Node makes them

        class Silent(Direct):
            async def preview(self, peer, draft):
                if peer == silent:  # what the others see by the time that it is given up
                    for attestor in panel.attestors:
                        see(attestor, NOW + int(waited), below(OWNER))
                    raise PeerUnavailable("ReadTimeout")
                return await super().preview(peer, draft)

            async def sign_batch(self, peer, proposal):
                if peer == silent:
                    raise PeerUnavailable("ReadTimeout")
                return await super().sign_batch(peer, proposal)

        peers = Silent([each for each in panel.attestors if each is not own])
        silent = list(peers.others)[-1]
        proposer = Proposer(own, own.view, own.batches, peers)
        assert proposer.build().legs
        assert await proposer.propose() is not None, proposer.failure

    run(tmp_path, work)


def test_a_proposer_does_not_take_the_epochs_before_its_own(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        for attestor in panel.attestors:
            see(attestor, NOW, Chains())
        liar = next(each for each in panel.attestors if each.signer.address == each.proposer_of(NOW // 2 + 2))
        # Heads that are not there yet: 4 s later than anybody's.
        cut = [replace(entry, head_time=entry.head_time + 4) for entry in liar.view.cut()]
        inputs = replace(liar.observer.inputs(), time=NOW + 4)
        reports = reports_at(liar.view.world_at(cut), marks_of(inputs, ()), liar.model, liar.listing)
        content = build_batch(PANEL, liar.model, cut, inputs, reports, [], liar.parameters.minimum_equity)
        proposal = BatchProposal(content, liar.signer.sign(batch_digest(PANEL, content.batch)))
        for each in panel.attestors:
            with suppress(Refused):
                await each.sign_proposed_batch(proposal)
        lost = []
        for time in (NOW, NOW + 2):
            for attestor in panel.attestors:
                see(attestor, time, Chains())
            own = next(each for each in panel.attestors if each.signer.address == each.proposer_of(time // 2))
            proposer = Proposer(own, own.view, own.batches, Direct([e for e in panel.attestors if e is not own]))
            if await proposer.propose() is None:
                lost.append(proposer.failure)
        assert not lost, lost

    run(tmp_path, work)


def test_an_old_draft_is_not_judged_again_and_again(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        proposer, peers = proposer_of(panel)
        for attestor in panel.attestors:
            see(attestor, NOW, below(OWNER, OTHER))
        draft = draft_of(proposer.build())
        other = next(iter(peers.others.values()))
        see(other, NOW + 120, below(OWNER, OTHER))
        for _ in range(3):
            other._reported = None  # as after any other batch
            with pytest.raises(Refused):
                await refused_legs(other, draft)

    run(tmp_path, work)
