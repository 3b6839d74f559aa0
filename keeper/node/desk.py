"""The permit desk: orders requests when it is this attestor's turn, and collects the quorum for each.

Requests reach the epoch's proposer, who judges them one after another; attestors sign in that order, each judging for
itself. So two requests for one margin never split the quorum for long; where they do, both expire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from keeper.attest.messages import PermitProposal
from keeper.attest.requests import permit_digest
from keeper.attest.signatures import join_signatures
from keeper.attest.signing import granted
from keeper.state.ids import Address, owner_of
from keeper.state.live import LiveItem, PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import to_json

from .attestor import Attestor
from .peers import NO_QUORUM, PeerRefused, Peers, PeerUnavailable, is_verdict, live_items, signed_by
from .refusal import Refused

log = structlog.get_logger()

_ROUNDS = 3
"""How often the attestors are asked for one request, where their refusals name items that were missing."""


class PermitDesk:
    """Takes requests for permits at one attestor."""

    def __init__(self, attestor: Attestor, peers: Peers) -> None:
        self._attestor = attestor
        self._peers = peers
        self._ordering = asyncio.Lock()

    async def request(self, item: PermitItem, *, forwarded: bool) -> dict[str, Any]:
        """Have a permit signed: by the current proposer, here where that is us, where it is gone, or where handed on.

        Returns:
            The signed permit, ready as calldata.

        Raises:
            Refused: why not: `code`, `free`, `asked`, `live`, and the attestors' own refusals.
        """
        self._attestor.check(item)
        view = self._attestor.view
        epoch = view.newest_head_time // self._attestor.deployment.profile.epoch_seconds
        proposer = self._attestor.proposer_of(epoch)
        if not forwarded and proposer in self._peers.urls:
            try:
                status, answer = await self._peers.request_permit(proposer, item, forwarded=True)
            except PeerUnavailable:
                log.info("permit.proposer_gone", proposer="0x" + proposer.hex())
            else:
                if not is_verdict(status, answer):
                    log.warning("permit.proposer_cannot", proposer="0x" + proposer.hex(), status=status)
                elif status != 200:
                    raise Refused.of(Problem.from_json(answer))
                elif _is_signed(self._attestor, item, answer):
                    return answer
                else:
                    log.warning("permit.no_quorum_in_answer", proposer="0x" + proposer.hex())
        async with self._ordering:
            return await self._collect(item)

    async def _collect(self, item: PermitItem) -> dict[str, Any]:
        """Collect the quorum; once more with what a refusal named, where items were missing in the list.

        A request that only reached some would be live there until its deadline, and whoever sends another one instead
        finds the margin taken. The same item again costs nothing: it is judged without itself.
        """
        told = await self._learn(item)
        signatures: dict[Address, bytes] = {}
        refusals: list[dict[str, Any]] = []
        for _ in range(_ROUNDS):
            try:
                signatures, refusals = await self._round(item, told)
            except Refused as refused:
                if not signatures:
                    raise
                # Beside what the others know we would not sign it either; but it was signed.
                own = "0x" + self._attestor.signer.address.hex()
                refusals.append({**refused.problem.to_json(), "attestor": own})
                break
            if len(signatures) >= self._attestor.deployment.threshold:
                return _signed(item, permit_digest(self._attestor.deployment, item), signatures)
            found = self._adopt_missing(refusals)
            if not found:
                break
            log.info("permit.missing_items", count=len(found), signatures=len(signatures))
            told += _of_owners(found, item)
        raise self._no_quorum(item, len(signatures), refusals)

    async def _round(self, item: PermitItem, told: list[LiveItem]) -> tuple[dict[Address, bytes], list[dict[str, Any]]]:
        """Ask every attestor once: the signatures, ours with them, and the refusals."""
        attestor = self._attestor
        known = {other.identity: other for other in (*told, *attestor.live_beside(item.accounts))}
        listed = tuple(other for key, other in known.items() if key != item.identity)
        digest = permit_digest(attestor.deployment, item)
        own = await attestor.sign_permit(item, listed)
        signatures: dict[Address, bytes] = {attestor.signer.address: own}
        refusals: list[dict[str, Any]] = []
        proposal = PermitProposal(item, listed, own)
        answers = await self._peers.gather(lambda peer: self._peers.sign_permit(peer, proposal))
        for peer, answer in answers.items():
            if isinstance(answer, PeerRefused):
                refusals.append({**answer.problem.to_json(), "attestor": "0x" + peer.hex()})
            elif isinstance(answer, PeerUnavailable):
                gone = Problem("unavailable", str(answer))
                refusals.append({**gone.to_json(), "attestor": "0x" + peer.hex()})
            elif signed_by(digest, answer, peer):
                signatures[peer] = answer
        return signatures, refusals

    def _no_quorum(self, item: PermitItem, signed: int, refusals: list[dict[str, Any]]) -> Refused:
        told = [refusal for refusal in refusals if refusal["code"] != "unavailable"]
        # What is missing is ours to learn; any other reason is the owner's to know.
        first = next((r for r in told if r["code"] != "missing_items"), told[0] if told else None)
        why = Problem.from_json(first)
        figures = {k: v for k, v in why.details.items() if k in ("free", "asked", "live")}
        return Refused(
            NO_QUORUM if first is None else why.code,
            f"{signed} of {self._attestor.deployment.threshold} attestors signed"
            + ("" if first is None else f"; {why.message}")
            + f"; what was signed expires at {item.permit.deadline}",
            field=why.field,
            got=why.got,
            wanted=why.wanted,
            unit=why.unit,
            refusals=refusals,
            **figures,
        )

    async def _learn(self, item: PermitItem) -> list[LiveItem]:
        """Adopt what other attestors know on the owners' accounts, and return all that they name.

        What is executed or dead at our final blocks may still live at theirs, a block behind: it must be listed, or
        they would miss it. Every signer judges what lives at its own.
        """
        told: list[tuple[Address, LiveItem]] = []
        for peer, answer in (await self._peers.gather(lambda peer: self._peers.live(peer, item.accounts))).items():
            if isinstance(answer, PeerUnavailable | PeerRefused):
                continue
            try:
                self._attestor.adopt(answer)
            except Refused as refusal:
                log.warning("peer.bad_list", peer="0x" + peer.hex(), reason=refusal.message)
            else:
                told += [(peer, other) for other in _of_owners(answer, item)]
        return self._vouched(told)

    def _vouched(self, told: Sequence[tuple[Address, LiveItem]]) -> list[LiveItem]:
        """Permits have their owners' signatures. A leg has none: named by so few that no honest one need be among them,
        it may be made up to hold up an account's acts. Who alone knows one refuses, and the others are a quorum."""
        deployment = self._attestor.deployment
        least = len(deployment.attestors) - deployment.threshold + 1
        named: dict[object, set[Address]] = {}
        for peer, other in told:
            named.setdefault(other.identity, set()).add(peer)
        items = {other.identity: other for _, other in told}
        return [other for key, other in items.items() if isinstance(other, PermitItem) or len(named[key]) >= least]

    def _adopt_missing(self, refusals: list[dict[str, Any]]) -> list[LiveItem]:
        """Adopt what refusals say is missing in our list, and return it."""
        found: list[tuple[Address, LiveItem]] = []
        for refusal in refusals:
            if refusal["code"] == "missing_items":
                try:
                    items = live_items(refusal["details"].pop("items", []))
                    self._attestor.adopt(items)
                except (Refused, ValueError) as error:
                    log.warning("peer.bad_list", peer=refusal["attestor"], reason=str(error))
                else:
                    peer = Address(bytes.fromhex(refusal["attestor"][2:]))
                    found += [(peer, other) for other in items]
        return self._vouched(found)


def _is_signed(attestor: Attestor, item: PermitItem, answer: dict[str, Any]) -> bool:
    """Whether the proposer's answer has what it says, and not only the right status."""
    try:
        granted(attestor.deployment, item, answer)
    except ValueError:
        return False
    return True


def _of_owners(items: Sequence[LiveItem], item: PermitItem) -> list[LiveItem]:
    """Those on accounts of the item's owners: nobody may fill its list with anything else."""
    owners = {owner_of(account) for account in item.accounts}
    return [other for other in items if owners & {owner_of(account) for account in other.accounts}]


def _signed(item: PermitItem, digest: bytes, signatures: dict[Address, bytes]) -> dict[str, Any]:
    log.info("permit.signed", action=type(item.action).__name__, chain=item.chain_id, signatures=len(signatures))
    return {
        "item": to_json(item),
        "digest": "0x" + digest.hex(),
        "signatures": "0x" + join_signatures(digest, signatures).hex(),
        "signers": ["0x" + signer.hex() for signer in sorted(signatures)],
    }
