"""Chapter e: bad batches, each re-signed with the devnet's keys so that only the named defect is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keeper.attest.batch import BatchContent, batch_domain
from keeper.attest.codec import cut_hash, digest, keccak, to_abi
from keeper.attest.messages import QuorumBatch
from keeper.attest.signatures import sign_digest
from keeper.chain.abi import Revert
from keeper.client import Call, Reverted
from keeper.devnet.chains import ATTESTORS, THRESHOLD, account
from keeper.devnet.narrator import expect
from keeper.state.batch import ChainCut, MarginBatch
from keeper.state.wire import from_json

from .stage import A, B, C, Stage

Posting = tuple[MarginBatch, tuple[ChainCut, ...], bytes]

_FUTURE_SECONDS = 120


async def bad_batches(stage: Stage) -> None:
    """e: the control is accepted everywhere, each defect is refused everywhere, by its own name."""
    async with stage.tell.step("e", "Bad batches are refused on all three chains, each by its own error"):
        found: dict[str, dict[str, str]] = {}
        wanted: dict[str, dict[str, str]] = {}
        for case, (error, build) in _cases(stage).items():
            wanted[case] = {stage.name(chain): error for chain in (A, B, C)}
            found[case] = {}
            for chain in (A, B, C):
                # Fresh each time: a chain must not refuse a case because its blocks went on meanwhile.
                posting = build(await _newest(stage), await stage.readers[chain].held_epoch())
                found[case][stage.name(chain)] = (await _refusal(stage, chain, posting)).name
        expect(found == wanted, str(wanted), found)
        for case, errors in found.items():
            names = " ".join(sorted(set(errors.values())))
            stage.tell.say(f"{case}: {names} on {', '.join(errors)}")
        stage.tell.steps[-1].figures["refusals"] = found


async def _newest(stage: Stage) -> BatchContent:
    """The newest batch, restamped to be later than any that was posted, with the blocks it names."""

    async def fetch() -> Any:
        return await stage.get("/v1/batches/latest")

    return from_json(QuorumBatch, await stage.until("a batch is known", fetch, 10)).content


def _cases(stage: Stage) -> dict[str, tuple[str, Callable[[BatchContent, int], Posting]]]:
    domain = batch_domain(stage.deployment)
    foreign = replace(domain, salt=keccak(b"another deployment"))
    epoch_seconds = stage.deployment.profile.epoch_seconds
    keys = [account(i).key for i in sorted(ATTESTORS, key=lambda i: account(i).address)][:THRESHOLD]

    def fresh(content: BatchContent, held: int) -> MarginBatch:
        timestamp = max(content.batch.timestamp, (held + 1) * epoch_seconds)
        return stamped(content, timestamp)

    def stamped(content: BatchContent, timestamp: int) -> MarginBatch:
        return replace(
            content.batch, timestamp=timestamp, epoch=timestamp // epoch_seconds, valid_until=timestamp + 300
        )

    def signatures(batch: MarginBatch, *, domain_: Any = domain) -> list[bytes]:
        return [sign_digest(digest(domain_, batch), key) for key in keys]

    def control(content: BatchContent, held: int) -> Posting:
        batch = fresh(content, held)
        return batch, content.cut, b"".join(signatures(batch))

    def short(content: BatchContent, held: int) -> Posting:
        batch = fresh(content, held)
        return batch, content.cut, b"".join(signatures(batch)[: THRESHOLD - 1])

    def unordered(content: BatchContent, held: int) -> Posting:
        batch = fresh(content, held)
        return batch, content.cut, b"".join(reversed(signatures(batch)))

    def other_bytes(content: BatchContent, held: int) -> Posting:
        batch = fresh(content, held)
        wrong = signatures(replace(batch, valid_until=batch.valid_until + 1))
        return batch, content.cut, b"".join([*signatures(batch)[:-1], wrong[-1]])

    def old(content: BatchContent, held: int) -> Posting:
        batch = stamped(content, held * epoch_seconds)
        batch = replace(batch, valid_until=int(time.time()) + 300)
        return batch, content.cut, b"".join(signatures(batch))

    def future(content: BatchContent, held: int) -> Posting:
        batch = stamped(content, int(time.time()) + _FUTURE_SECONDS)
        return batch, content.cut, b"".join(signatures(batch))

    def other_salt(content: BatchContent, held: int) -> Posting:
        batch = fresh(content, held)
        return batch, content.cut, b"".join(signatures(batch, domain_=foreign))

    def other_block(content: BatchContent, held: int) -> Posting:
        hashes = [entry.block_hash for entry in content.cut]
        turned = [*hashes[1:], hashes[0]]
        cut = tuple(replace(entry, block_hash=h) for entry, h in zip(content.cut, turned, strict=True))
        batch = replace(fresh(content, held), cut_hash=cut_hash(cut))
        return batch, cut, b"".join(signatures(batch))

    return {
        "nothing wrong (control)": ("Accepted", control),
        "threshold not met": ("BelowThreshold", short),
        "signers out of order": ("SignersNotAscending", unordered),
        "one signature over other bytes": ("UnknownSigner", other_bytes),
        "an old epoch": ("EpochNotRising", old),
        "a stamp from the future": ("TimestampInFuture", future),
        "another deployment's salt": ("ForeignDigest", other_salt),
        "another chain's block hash": ("BlockHashMismatch", other_block),
    }


async def _refusal(stage: Stage, chain: int, posting: Posting) -> Revert:
    batch, cut, signatures = posting
    arguments = (to_abi(batch), [to_abi(entry) for entry in cut], signatures)
    verifier = stage.deployment.chains[chain].contracts.verifier
    try:
        await stage["owner"].client.simulate(Call(chain, "MarginVerifier", verifier, "postBatch", arguments))
    except Reverted as reverted:
        return reverted.revert
    return Revert("Accepted", {})
