"""What the contracts would refuse, the attestors refuse: both are asked about the same acts on a real chain.

Every act is signed by its owner and by the attestors' own keys whatever an attestor says of it, and run against the
contract by `eth_call`. An act with one thing wrong must be refused by both, and by the code that stands for the
contract's error; one with two things wrong, by both; one with nothing wrong, by neither.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keeper.attest.checks import CHECKS, ELSEWHERE, refused_on_chain
from keeper.attest.codec import struct_hash, to_abi
from keeper.attest.permits import Refusal, judge
from keeper.attest.requests import clearance_for, order_digest, permit_digest, permit_for, request_digest
from keeper.attest.signatures import join_signatures, sign_digest
from keeper.chain.abi import describe_revert, encode
from keeper.chain.rpc import Rpc, RpcError
from keeper.devnet.chains import ATTESTORS, account
from keeper.devnet.wallet import Wallet
from keeper.node.refusal import Refused
from keeper.state.actions import Action, Move, Order, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import ZERO32, AccountId, Address, AssetId, account_id, owner_of, perpetual, token_id
from keeper.state.live import PermitItem
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet

A, B, C = 31_337_001, 31_337_002, 31_337_003
MAKER, TAKER = 100, 101
USDC = 10**6
ETH, BTC = perpetual("ETH"), perpetual("BTC")
ROOT = Path(__file__).parents[2]
PAIRS = 24
"""Acts with two faults, of each kind."""

UNREACHED = {
    "construction": "a constructor's",
    "signatures": "of the quorum, which is honest here",
    "batches": "of postings",
    "bridge": "of shipments",
    "funding and expiry": "of accruals and settlements, but for the three that CHECKS has",
    "settlement between chains": "of cycles",
}
"""Sections of Errors.sol that no permitted act reaches."""
UNREACHED_ERRORS = {
    "NoBatch", "ZeroLeaf", "EmptyProof", "WrongChain", "MarksTooOld", "StateTooOld",  # proofs come with the act
    "NotConsumer", "NotClearingHouse", "NotBridge", "NoBridge", "NotVault", "NotReservations",  # who may call
    "NoOwner", "TokenNotListed", "NothingArrived", "TooManyChains", "BadChain",  # deposits and links
    "ArrivedMoreThanSent",  # arrivals
    "LegWithoutCounterparty", "CounterpartyPosition",  # deleveraging wants no permit
    "NotAClearance", "ReleaseExceeds", "ClaimExceeds",  # integrators'
}  # fmt: skip

CODES: Mapping[str, set[str]] = {
    error: {check.code for check in CHECKS if error in check.errors} | {*ELSEWHERE.get(error, ())}
    for error in {*(error for check in CHECKS for error in check.errors), *ELSEWHERE}
}


def test_every_error_that_an_act_can_meet_is_refused_by_somebody() -> None:
    section, missing = "", set()
    for line in (ROOT / "contracts/libraries/Errors.sol").read_text().splitlines():
        if found := re.match(r"    // --- (.+?) -+$", line):
            section = found[1]
        elif (found := re.match(r"    error (\w+)\(", line)) and section not in UNREACHED:
            missing |= {found[1]} - {*CODES} - UNREACHED_ERRORS
    assert not missing


@dataclass
class Scene:
    """Two owners with cash on one chain, a batch posted there, and what a good act of each kind says."""

    panel: Panel
    rpc: Rpc
    maker: Wallet
    taker: Wallet
    now: int
    marks: dict[AssetId, tuple[Any, list[bytes]]]
    cancelled: int
    used: int

    @property
    def integrator(self) -> Address:
        found = self.panel.deployment.chains[C].integrator
        assert found is not None
        return found


GOOD: dict[str, dict[str, Any]] = {
    "withdraw": {"account": "own", "token": "USDC", "amount": 5 * USDC, "receiver": "own"},
    "reserve": {"integrator": "lender", "amount": 5 * UNIT, "cash_part": 2 * UNIT, "until": 600, "submitter": 0},
    "submitted": {"integrator": "lender", "amount": 5 * UNIT, "cash_part": 2 * UNIT, "until": 600, "submitter": 7},
    "clearance": {"integrator": "lender", "amount": 5 * UNIT, "cash_part": 5 * UNIT, "until": None, "submitter": 0},
    "cash move": {"to": "sub", "asset": ZERO32, "amount": 5 * UNIT},
    "position move": {"to": "sub", "asset": ETH, "amount": UNIT // 10},
    "trade": {
        "size": -UNIT // 10, "price": 3_000 * UNIT, "maker_size": -UNIT, "taker_size": UNIT, "asset": ETH,
        "taker_asset": None, "taker": "taker", "max_fee": 10 * UNIT, "limit": 3_000 * UNIT, "ends": 100,
        "submitters": (None, None), "maker_nonce": None,
    },
    "takeover": {"liquidated": "own"},
    "unlink": {"account": "own", "chain": A},
}  # fmt: skip
COMMON: list[tuple[str, Any]] = [("deadline", -1), ("deadline", 10_000), ("nonce", "used")]
FAULTS: dict[str, list[tuple[str, Any]]] = {
    "withdraw": [
        ("account", "claims"), ("token", "none"), ("amount", 0), ("amount", 10**15), ("receiver", "zero"),
        ("receiver", "vault"), ("token", "WETH"),
    ],
    "reserve": [("integrator", "zero"), ("amount", 0), ("cash_part", 6 * UNIT), ("until", -5)],
    "submitted": [("integrator", "zero"), ("amount", 0)],
    "clearance": [("submitter", 7), ("cash_part", 4 * UNIT)],
    "cash move": [("to", "own"), ("to", "other"), ("amount", 0), ("amount", -5 * UNIT), ("to", "claims")],
    "position move": [
        ("to", "own"), ("amount", 0), ("asset", perpetual("ZZZ")), ("asset", token_id(C, b"\1" * 20)),
        ("asset", AssetId(b"\xff" * 32)), ("asset", AssetId(b"\1ETH" + b"\0" * 27 + b"\1")),
    ],
    "trade": [
        ("size", 0), ("size", UNIT // 10), ("taker_size", -UNIT), ("size", -2 * UNIT), ("price", 3_001 * UNIT),
        ("band", 3_400 * UNIT), ("band", 2_600 * UNIT), ("taker_asset", BTC), ("asset", perpetual("ZZZ")),
        ("asset", token_id(C, b"\1" * 20)), ("asset", AssetId(b"\7" * 32)), ("taker", "sub"), ("max_fee", 0),
        ("ends", -5), ("submitters", (7, 8)), ("maker_nonce", "cancelled"), ("taker", "claims"),
    ],
    "takeover": [("liquidated", "own"), ("liquidated", "other")],
    "unlink": [
        ("chain", B), ("chain", C), ("chain", 0), ("chain", 2**64 - 1), ("account", "sub"), ("account", "claims"),
    ],
}  # fmt: skip


@pytest.mark.devnet
@pytest.mark.asyncio
async def test_what_contracts_refuse_attestors_refuse_and_by_the_name_that_stands_for_it(
    devnet: Devnet, panel: Panel, rpcs: dict[int, Rpc]
) -> None:
    scene = await _scene(devnet, panel, rpcs)
    draw, seen = random.Random(1), set()
    for kind, faults in FAULTS.items():
        cases = [dict([fault]) for fault in faults]
        if kind not in ("takeover", "clearance"):  # there is no leg and nothing owed: none is good but for one thing
            assert await _asked(scene, kind, {}) == (None, None), kind
            cases += [dict([fault]) for fault in COMMON]
            cases += [dict(draw.sample(faults + COMMON, 2)) for _ in range(PAIRS)]
        for changes in cases:
            reverts, refuses = await _asked(scene, kind, changes)
            assert reverts is not None, f"the contract takes {kind} with {changes}"
            assert refuses is not None, f"{kind} with {changes}: the contract says {reverts}, the attestor signs"
            seen.add(reverts)
            if len(changes) == 1:
                assert refuses in CODES[reverts], f"{kind} with {changes}: {reverts} on chain, {refuses} here"
    # What no case above can bring about is what needs a leg, a full account, an expiry, or another's signature.
    wanted = {error for check in CHECKS for error in check.errors}
    wanted -= {"InstrumentExpired", "InstrumentSettled", "TooManyInstruments"}
    assert wanted <= seen | {"MarkAssetMismatch"}, wanted - seen


async def _scene(devnet: Devnet, panel: Panel, rpcs: dict[int, Rpc]) -> Scene:
    nobody = "http://nobody.invalid"
    maker, taker = (Wallet(index, devnet.deployment, rpcs, nobody) for index in (MAKER, TAKER))
    for wallet in (maker, taker):
        await wallet.deposit(C, "USDC", 100_000 * USDC)
        await wallet.deposit(C, "USDC", 100_000 * USDC, sub_account=1)
    vault = devnet.deployment.chains[C].contracts.vault
    for sub_account in (0, 2**96 - 1):  # also where no permit reaches: it is refused as such
        await maker.send(C, "CollateralVault", vault, "link", maker.account(sub_account), [A])
    house = devnet.deployment.chains[C].contracts.clearing_house
    cancelled, used = 77, 78
    await maker.send(C, "ClearingHouse", house, "cancelOrder", maker.account(), cancelled)
    await panel.look_until(maker.last_block, C)
    spent = maker.signed_request(
        C, Withdraw(maker.account(), devnet.deployment.chains[C].settlement.address, USDC, maker.address),
        await maker.head_time(C) + 60, used,
    )  # fmt: skip
    signed, refusals = await panel.permit(spent)
    assert signed is not None, refusals
    await maker.use(signed)
    await panel.look_until(maker.last_block, C)
    quorum = await panel.quorum_batch()
    content = quorum.content
    posting = (to_abi(content.batch), [to_abi(entry) for entry in content.cut], quorum.signatures)
    verifier = devnet.deployment.chains[C].contracts.verifier
    await taker.send(C, "MarginVerifier", verifier, "postBatch", *posting)
    await panel.look_until(taker.last_block, C, final=False)
    marks = {mark.asset: (to_abi(mark), content.mark_tree.proof(mark)) for mark in content.marks}
    now = await maker.head_time(C)
    await maker.aclose()
    await taker.aclose()
    return Scene(panel, rpcs[C], maker, taker, now, marks, cancelled, used)


_NONCES = count(1_000)


async def _asked(scene: Scene, kind: str, changes: dict[str, Any]) -> tuple[str | None, str | None]:
    """What the contract says to an act, and what an attestor says: the error's name and the code, or None."""
    await scene.panel.look()
    scene.now = scene.panel.attestors[0].view.followers[C].head.block.time
    item = _item(scene, kind, changes)
    return await _reverts(scene, item), _refuses(scene, item)


def _refuses(scene: Scene, item: PermitItem) -> str | None:
    attestor = scene.panel.attestors[0]
    try:
        attestor.check(item)
    except Refused as refused:
        return refused.code
    context = attestor._context(item)
    problem = refused_on_chain(item, attestor.view.followers[C].head, context)
    if problem is not None:
        return problem.code
    verdict = judge(item, [], context)
    return verdict.code if isinstance(verdict, Refusal) else None


async def _reverts(scene: Scene, item: PermitItem) -> str | None:
    digest = permit_digest(scene.panel.deployment, item)
    members = [account(index) for index in ATTESTORS]
    quorum = join_signatures(digest, {member.address: sign_digest(digest, member.key) for member in members})
    to, data = _call(scene, item, quorum)
    body = {"from": "0x" + owner_of(item.permit.account_id).hex(), "to": "0x" + to.hex(), "data": "0x" + data.hex()}
    try:
        await scene.rpc.call("eth_call", [body, "latest"])
    except RpcError as error:
        return describe_revert(bytes.fromhex(str(error.data)[2:])).name
    return None


def _call(scene: Scene, item: PermitItem, quorum: bytes) -> tuple[Address, bytes]:
    contracts, action = scene.panel.deployment.chains[C].contracts, item.action
    permit = (to_abi(item.permit), quorum)
    if isinstance(action, Withdraw):
        return contracts.vault, encode("CollateralVault", "withdraw", [to_abi(action), *permit])
    if isinstance(action, Unlink):
        return contracts.vault, encode("CollateralVault", "unlink", [to_abi(action), *permit])
    if isinstance(action, Reserve):
        function = "clearRest" if action.clears else "reserve"
        return contracts.reservations, encode("MarginReservations", function, [to_abi(action), *permit])
    if isinstance(action, Move):
        mark = scene.marks.get(AssetId(action.asset), scene.marks[ETH])
        return contracts.clearing_house, encode("ClearingHouse", "move", [to_abi(action), *mark, *permit])
    if isinstance(action, Takeover):
        leaf = LiquidationLeaf(action.liquidated, C, action.asset, UNIT, 3_000 * UNIT, 0, scene.now)
        arguments = [to_abi(leaf), [b"\1" * 32], action.account_id, action.size, *permit]
        return contracts.clearing_house, encode("ClearingHouse", "liquidate", arguments)
    maker, taker = item.orders
    assert isinstance(action, Trade)
    mark = scene.marks.get(maker.asset, scene.marks[ETH])
    sides = (to_abi(maker), item.signatures[0], to_abi(taker), item.signatures[1])
    match = (*sides, action.size, action.price, *mark, *permit)
    return contracts.clearing_house, encode("ClearingHouse", "matchOrders", [match])


def _item(scene: Scene, kind: str, changes: dict[str, Any]) -> PermitItem:
    said = GOOD[kind] | changes
    deadline = scene.now + int(said.get("deadline", 60))
    if kind == "trade":
        return _trade(scene, said, deadline)
    action = _action(scene, kind, said)
    if isinstance(action, Reserve) and action.clears:
        return clearance_for(scene.panel.deployment, C, action, deadline)
    nonce = scene.used if said.get("nonce") == "used" else next(_NONCES)
    item = PermitItem(C, permit_for(scene.panel.deployment, action, nonce, deadline), action, ())
    key = account(MAKER).key
    return replace(item, signatures=(sign_digest(request_digest(scene.panel.deployment, item), key),))


def _action(scene: Scene, kind: str, said: dict[str, Any]) -> Action:
    own, chain = scene.maker.account(), scene.panel.deployment.chains[C]
    places: dict[str, Any] = {
        "own": own,
        "sub": scene.maker.account(1),
        "other": scene.taker.account(),
        "claims": account_id(scene.maker.address, 2**96 - 1),
    }
    if kind == "withdraw":
        symbols = {token.symbol: token.address for token in (chain.settlement, *chain.collateral)}
        receivers = {"own": scene.maker.address, "zero": Address(bytes(20)), "vault": chain.contracts.vault}
        token = symbols.get(said["token"], Address(b"\x99" * 20))
        return Withdraw(places[said["account"]], token, said["amount"], receivers[said["receiver"]])
    if kind in ("reserve", "submitted", "clearance"):
        integrator = scene.integrator if said["integrator"] == "lender" else Address(bytes(20))
        until = 0 if said["until"] is None else scene.now + said["until"]
        submitter = Address(bytes([said["submitter"]]) * 20)
        return Reserve(own, integrator, said["amount"], said["cash_part"], until, submitter)
    if kind == "unlink":
        return Unlink(places[said["account"]], said["chain"])
    if kind == "takeover":
        return Takeover(own, places[said["liquidated"]], ETH, UNIT)
    return Move(own, places[said["to"]], said["asset"], said["amount"])


def _trade(scene: Scene, said: dict[str, Any], deadline: int) -> PermitItem:
    deployment = scene.panel.deployment
    if "band" in said:
        said |= {"price": said["band"], "limit": said["band"]}
    accounts: dict[str, AccountId] = {
        "taker": scene.taker.account(),
        "sub": scene.maker.account(1),
        "claims": account_id(scene.taker.address, 2**96 - 1),
    }
    submitters = [Address(bytes(20) if n is None else bytes([n]) * 20) for n in said["submitters"]]
    ends = scene.now + max(int(said["ends"]), 0 if said["ends"] < 0 else int(said.get("deadline", 60)))
    if said["ends"] < 0:
        ends = scene.now - 5
    nonce = scene.cancelled if said["maker_nonce"] == "cancelled" else next(_NONCES)
    taker = accounts[said["taker"]]
    maker_order = Order(
        scene.maker.account(), said["asset"], said["maker_size"], min(said["limit"], 2_600 * UNIT) if "band" in said
        else said["limit"], said["max_fee"], nonce, ends, submitters[0],
    )  # fmt: skip
    taker_order = Order(
        taker, said["taker_asset"] or said["asset"], said["taker_size"], said["limit"], said["max_fee"],
        next(_NONCES), ends, submitters[1],
    )  # fmt: skip
    orders = (maker_order, taker_order)
    action = Trade(struct_hash(maker_order), struct_hash(taker_order), said["size"], said["price"])
    number = scene.used if said.get("nonce") == "used" else next(_NONCES)
    keys = {scene.maker.address: account(MAKER).key, scene.taker.address: account(TAKER).key}
    signatures = tuple(
        sign_digest(order_digest(deployment, C, order), keys[owner_of(order.account_id)]) for order in orders
    )
    return PermitItem(C, permit_for(deployment, action, number, deadline, orders), action, signatures, orders)
