"""Shipments between real vaults: a signed settlement burns on one chain, Circle's stand-in attests, the other mints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio

from keeper.attest.batch import batch_digest, with_roots
from keeper.attest.codec import to_abi
from keeper.attest.merkle import MerkleTree
from keeper.attest.signatures import join_signatures
from keeper.chain.abi import encode
from keeper.chain.cctp import Attested, CctpError, Iris, IrisUnavailable, Shipment, delivered, shipments
from keeper.chain.rpc import Rpc
from keeper.client import Reverted
from keeper.devnet.cluster import circle, free_ports, wait_alive
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet
from keeper.state.batch import UNIT, SettlementLeaf
from keeper.state.ids import AccountId
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
_USERS = iter(range(84, 92))
_CYCLES = iter(range(1, 1000))


@pytest_asyncio.fixture
async def owner(devnet: Devnet, rpcs: dict[int, Rpc]) -> AsyncIterator[Wallet]:
    wallet = Wallet(next(_USERS), devnet.deployment, rpcs, "http://nobody.invalid")
    yield wallet
    await wallet.aclose()


@pytest_asyncio.fixture(params=[0])
async def iris(devnet: Devnet, request: pytest.FixtureRequest) -> AsyncIterator[Iris]:
    """The attester as the cluster runs it, with the fee of the test's parameter."""
    process = circle(devnet.folder, free_ports(1)[0], request.param)
    process.start()
    client = Iris(process.url)
    try:
        await asyncio.to_thread(wait_alive, process)
        yield client
    finally:
        await client.aclose()
        process.end()


def transfer(to_chain: int) -> AccountId:
    """The account id of a shipment's leaf: no owner, bit 64, the chain."""
    return AccountId((1 << 64 | to_chain).to_bytes(32, "big"))


@dataclass
class Books:
    """What a vault and its clearing house say."""

    held: int
    claims: int
    total_cash: int
    fund: int

    @classmethod
    async def of(cls, devnet: Devnet, rpcs: dict[int, Rpc], chain_id: int) -> Books:
        chain = devnet.deployment.chains[chain_id]
        reader, house = ChainReader(chain, rpcs[chain_id]), chain.contracts.clearing_house
        fund = AccountId((1).to_bytes(32, "big"))
        return cls(
            await reader.call("CollateralVault", chain.contracts.vault, "settlementHeld", []) * 10**12,
            await reader.call("ClearingHouse", house, "claims", []),
            await reader.call("ClearingHouse", house, "totalCash", []),
            await reader.call("ClearingHouse", house, "cashOf", [fund]),
        )

    @property
    def add_up(self) -> bool:
        """CM-30."""
        return self.total_cash == self.held + self.claims


async def settle(panel: Panel, sender: Wallet, leaves: Sequence[SettlementLeaf]) -> None:
    """Post a quorum's batch with these leaves on the chains they are of, and apply them there, each chain at once."""
    _, content = await panel.build()
    content = replace(content, settlements=tuple(leaves))
    content = replace(content, batch=with_roots(content))
    digest = batch_digest(panel.deployment, content.batch)
    signatures = join_signatures(digest, {a.signer.address: a.signer.sign(digest) for a in panel.attestors})
    posting = encode(
        "MarginVerifier", "postBatch", (to_abi(content.batch), [to_abi(c) for c in content.cut], signatures)
    )
    tree = MerkleTree.of(content.settlements)
    for chain_id in sorted({leaf.chain_id for leaf in leaves}):
        contracts = panel.deployment.chains[chain_id].contracts
        own = [leaf for leaf in leaves if leaf.chain_id == chain_id]
        await sender.send(chain_id, "postBatch", contracts.verifier, posting)
        applying = encode(
            "ClearingHouse", "applySettlement", [[to_abi(leaf) for leaf in own], [tree.proof(leaf) for leaf in own]]
        )
        await sender.send(chain_id, "applySettlement", contracts.clearing_house, applying)


async def until_attested(iris: Iris, domain: int, tx_hash: str) -> list[Attested]:
    async with asyncio.timeout(30):
        while True:
            if found := await iris.attested(domain, tx_hash):
                return found
            await asyncio.sleep(0.1)


async def newest(devnet: Devnet, rpc: Rpc, chain_id: int, count: int = 1) -> list[Shipment]:
    head = int(await rpc.call("eth_blockNumber"), 16)
    chain = devnet.deployment.chains[chain_id]
    return (await shipments(rpc, chain, chain.deploy_block, head))[-count:]


@pytest.mark.cm(30)
async def test_cm30_a_settlement_ships_to_another_vault(
    devnet: Devnet, panel: Panel, owner: Wallet, iris: Iris, rpcs: dict[int, Rpc]
) -> None:
    """CM-30 holds at every step: before, while the tokens are on their way, and when they have arrived."""
    await owner.deposit(A, "USDC", 1_000 * USDC)
    before = {chain: await Books.of(devnet, rpcs, chain) for chain in (A, B)}
    cycle, account = next(_CYCLES), owner.account()
    await settle(
        panel,
        owner,
        [
            SettlementLeaf(cycle, account, A, -400 * UNIT),
            SettlementLeaf(cycle, transfer(B), A, -400 * UNIT),
            SettlementLeaf(cycle, account, B, 400 * UNIT),
        ],
    )
    on_the_way = {chain: await Books.of(devnet, rpcs, chain) for chain in (A, B)}
    assert on_the_way[A].held == before[A].held - 400 * UNIT
    assert on_the_way[A].claims == before[A].claims
    assert on_the_way[B].claims == before[B].claims + 400 * UNIT
    assert all(books.add_up for books in (*before.values(), *on_the_way.values()))

    (shipment,) = await newest(devnet, rpcs[A], A)
    assert (shipment.to_chain, shipment.amount) == (B, 400 * USDC)
    (attested,) = await until_attested(iris, 0, shipment.tx_hash)
    chains = devnet.deployment.chains
    burn = attested.burn
    assert (burn.source_domain, burn.destination_domain, burn.amount, burn.fee) == (0, 6, 400 * USDC, 0)
    assert burn.message_sender == burn.mint_recipient == chains[A].bridge == chains[B].bridge
    assert (burn.min_finality, burn.finality) == (2_000, 2_000)
    assert not await delivered(rpcs[B], chains[B], burn.nonce)

    bridge = chains[B].bridge
    assert bridge is not None
    await owner.send_data(B, "receiveMessage", bridge, attested.completion)  # anybody may
    after = {chain: await Books.of(devnet, rpcs, chain) for chain in (A, B)}
    assert after[B].held == before[B].held + 400 * UNIT
    assert after[B].claims == before[B].claims
    assert after[B].fund == before[B].fund
    assert all(books.add_up for books in after.values())
    assert await delivered(rpcs[B], chains[B], burn.nonce)
    assert await iris.attested(0, shipment.tx_hash) == [attested]  # the same again, whenever it is asked

    with pytest.raises(Reverted, match="NonceUsed"):
        await owner.send_data(B, "receiveMessage", bridge, attested.completion)


@pytest.mark.parametrize("iris", [5], indirect=True)
async def test_one_transaction_ships_to_two_chains_and_the_fund_pays_the_fees(
    devnet: Devnet, panel: Panel, owner: Wallet, iris: Iris, rpcs: dict[int, Rpc]
) -> None:
    await owner.deposit(A, "USDC", 5_000 * USDC)
    before = {chain: await Books.of(devnet, rpcs, chain) for chain in (A, B, C)}
    cycle, account = next(_CYCLES), owner.account()
    await settle(
        panel,
        owner,
        [
            SettlementLeaf(cycle, account, A, -3_000 * UNIT),
            SettlementLeaf(cycle, transfer(B), A, -2_000 * UNIT),
            SettlementLeaf(cycle, transfer(C), A, -1_000 * UNIT),
            SettlementLeaf(cycle, account, B, 2_000 * UNIT),
            SettlementLeaf(cycle, account, C, 1_000 * UNIT),
        ],
    )
    first, second = await newest(devnet, rpcs[A], A, 2)
    assert first.tx_hash == second.tx_hash
    found = await until_attested(iris, 0, first.tx_hash)
    assert [(a.burn.destination_domain, a.burn.amount, a.burn.fee) for a in found] == [
        (6, 2_000 * USDC, 1 * USDC),
        (3, 1_000 * USDC, USDC // 2),
    ]
    assert found[0].burn.nonce != found[1].burn.nonce
    with pytest.raises(Reverted, match="WrongDomain"):
        await owner.send_data(C, "receiveMessage", devnet.deployment.chains[C].bridge or b"", found[0].completion)
    for chain_id, attested in ((B, found[0]), (C, found[1])):
        bridge = devnet.deployment.chains[chain_id].bridge
        assert bridge is not None
        await owner.send_data(chain_id, "receiveMessage", bridge, attested.completion)
        after, fee = await Books.of(devnet, rpcs, chain_id), attested.burn.fee * 10**12
        assert after.add_up
        assert after.claims == before[chain_id].claims
        assert after.fund == before[chain_id].fund - fee
        assert after.held == before[chain_id].held + attested.burn.amount * 10**12 - fee


async def test_attestations_wait_for_finality(devnet: Devnet, owner: Wallet, iris: Iris) -> None:
    """A burn in the newest block is pending; so is it until its block is final. One's own burn will do."""
    chain = devnet.deployment.chains[A]
    assert chain.cctp is not None
    token = chain.settlement.address
    await owner.send(A, "DevnetToken", token, "mint", owner.address, USDC)
    await owner.send(A, "DevnetToken", token, "approve", chain.cctp.messenger, USDC)
    me = bytes(12) + owner.address
    burn = [USDC, 6, me, token, bytes(32), 0, 2_000]
    receipt = await owner.send(A, "DevnetTokenMessenger", chain.cctp.messenger, "depositForBurn", *burn)
    async with httpx.AsyncClient(base_url=iris.url, trust_env=False) as http:
        answer = (await http.get("/v2/messages/0", params={"transactionHash": receipt.tx_hash})).json()
        assert [entry["status"] for entry in answer["messages"]] == ["pending_confirmations"]
        assert answer["messages"][0]["attestation"] == "PENDING"
        assert await iris.attested(0, receipt.tx_hash) == []
        (attested,) = await until_attested(iris, 0, receipt.tx_hash)
        final = int(devnet.call(A, "eth_getBlockByNumber", ["finalized", False])["number"], 16)
        assert final >= receipt.block_number
        (entry,) = (await http.get("/v2/messages/0", params={"transactionHash": receipt.tx_hash})).json()["messages"]
        assert entry["decodedMessage"]["decodedMessageBody"]["amount"] == str(USDC)
        assert entry["eventNonce"] == "0x" + attested.burn.nonce.hex()
    assert attested.burn.message_sender == owner.address  # and so no adapter takes it
    bridge = devnet.deployment.chains[B].bridge
    assert bridge is not None
    with pytest.raises(Reverted, match="ForeignShipment"):
        await owner.send_data(B, "receiveMessage", bridge, attested.completion)


async def test_what_iris_does_not_know(devnet: Devnet, owner: Wallet, iris: Iris) -> None:
    assert await iris.attested(0, "0x" + "11" * 32) == []
    assert await iris.attested(99, "0x" + "11" * 32) == []  # no domain of ours
    receipt = await owner.send_data(
        A,
        "mint",
        devnet.deployment.chains[A].settlement.address,
        encode("DevnetToken", "mint", [owner.address, 1]),
    )
    assert await iris.attested(0, receipt.tx_hash) == []  # no burn in it
    with pytest.raises(IrisUnavailable, match=r"HTTP 400: .*64 hex digits"):
        await iris.attested(0, "0x12")


async def test_a_chain_without_a_bridge_ships_nothing(devnet: Devnet) -> None:
    chain = replace(devnet.deployment.chains[A], bridge=None, cctp=None)
    rpc = Rpc(chain.rpc)
    with pytest.raises(CctpError, match="chain A has no bridge"):
        await shipments(rpc, chain, 0, 1)
    with pytest.raises(CctpError, match="chain A has no CCTP"):
        await delivered(rpc, chain, bytes(32))
    await rpc.aclose()
