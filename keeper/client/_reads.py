"""What a client asks a node: accounts, proofs, batches, and permits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from keeper import schema
from keeper.attest.batch import batch_digest, with_roots
from keeper.attest.messages import QuorumBatch
from keeper.attest.signatures import check_quorum
from keeper.attest.signing import (
    SignedPermit,
    granted,
    order_typed_data,
    request_for,
    request_typed_data,
    signed_order,
    signed_request,
)
from keeper.state.actions import Action, Order, Trade
from keeper.state.batch import LiquidationLeaf, MarginLeaf, MarkLeaf
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import from_json, to_json

from ._answers import Proof, proof_of
from ._base import AccountLike, Base, ChainLike, InstrumentLike, instrument
from ._calls import call_of
from ._draft import SignedOrder
from ._errors import BadArgument, Refused, Unavailable

_PAUSE_SECONDS = 0.5
"""Before a request is sent again; twice as long each time."""
DEADLINE_SECONDS = 60
"""How long a permit is good for where nothing else is said; the attestors sign none beyond 300."""


class Reads(Base):
    """Questions to a node. Not for use by itself."""

    async def account(self, account: AccountLike = 0) -> schema.Account:
        """An account's margin as the node sees it at final blocks, with what is held and what is live.

        Amounts are integers of USD 1e18, and numbers of USD under `usd`; `margin_accounts` has one entry for each set
        of chains that are linked. `live` is None where no attestor said what is live.

        Raises:
            Refused: `not_found` where no chain knows the account.
            Unavailable: the node does not answer, or of another account.

        Example:
            margin = (await client.account("0x14dC79964da2C08b23698B3D3cc7Ca32193d9955")).margin_accounts[0]
            print(margin.usd.free, margin.status)
        """
        wanted = self.account_id(account)
        found = await self._answer(schema.Account, "GET", f"/v1/accounts/0x{wanted.hex()}")
        if found.account_id != wanted:
            raise Unavailable(f"{self.node_url}: the answer is of account 0x{found.account_id.hex()}")
        return found

    async def whatif(
        self,
        changes: Sequence[schema.Change],
        *,
        account: AccountLike | None = 0,
        chains: Sequence[ChainLike] | None = None,
    ) -> schema.WhatIf:
        """What an account's margin would be after trades, transfers and reservations: advice, no permit.

        `changes` are of `keeper.schema`, amounts in the smallest unit; `account` None is one that holds nothing;
        `chains` says which margin account is meant where the account has several.

        Raises:
            Refused: what cannot be asked, and why.
            Unavailable: the node does not answer.

        Example:
            change = TradeChange(kind="trade", asset="ETH-PERP", size=2 * 10**18)
            print((await client.whatif([change])).after.usd.free)
        """
        body = schema.WhatIfRequest(
            account=None if account is None else "0x" + self.account_id(account).hex(),
            chains=None if chains is None else await self._chain_ids(chains),
            changes=list(changes),
        )
        told = body.model_dump(mode="json", by_alias=True, exclude_none=True)
        return await self._answer(schema.WhatIf, "POST", "/v1/whatif", told)

    async def proof(self, account: AccountLike = 0, *, chain: ChainLike) -> Proof[MarginLeaf]:
        """An account's leaf and its proof against the batch that a chain holds, ready for a contract call.

        Raises:
            Refused: `not_found` where the batch has no leaf of it there: not linked to that chain, or no equity.
            Unavailable: the node does not answer, or with another leaf than was asked for.

        Example:
            proof = await client.proof("0x14dC79964da2C08b23698B3D3cc7Ca32193d9955", chain="C")
            verifier.functions.prove(*proof.arguments).transact()
        """
        where, wanted = await self.chain(chain), self.account_id(account)
        path = f"/v1/accounts/0x{wanted.hex()}/proof?chain={where.chain_id}"
        proof = proof_of(MarginLeaf, await self._node.ask("GET", path), self.node_url + path)
        if (proof.leaf.account_id, proof.leaf.chain_id) != (wanted, where.chain_id):
            raise Unavailable(f"{self.node_url}{path}: the leaf is of another account or chain")
        return proof

    async def mark_proof(self, asset: InstrumentLike, *, chain: ChainLike) -> Proof[MarkLeaf]:
        """An instrument's mark and its proof against the batch that a chain holds. `price` is USD 1e18.

        Raises:
            Refused: `not_found` where the batch has no mark of it.
            Unavailable: the node does not answer, or with another mark than was asked for.

        Example:
            mark = await client.mark_proof("ETH-PERP", chain="B")
        """
        where, wanted = await self.chain(chain), instrument(asset)
        path = f"/v1/marks/0x{wanted.hex()}/proof?chain={where.chain_id}"
        proof = proof_of(MarkLeaf, await self._node.ask("GET", path), self.node_url + path)
        if proof.leaf.asset != wanted:
            raise Unavailable(f"{self.node_url}{path}: the mark is of another instrument")
        return proof

    async def leg_proof(
        self, account: AccountLike, asset: InstrumentLike, *, chain: ChainLike
    ) -> Proof[LiquidationLeaf]:
        """A liquidation leg in the newest batch that a chain holds, and its proof.

        Raises:
            Refused: `no_leg` where that batch closes nothing of the kind.
            Unavailable: node or chain do not answer.
        """
        where, wanted = await self.chain(chain), instrument(asset)
        owed = self.account_id(account)
        current, _ = await self.read(call_of(where, "MarginVerifier", "held"))
        content = (await self.batch(int(current[0]))).content
        for leg in content.legs:
            if (leg.account_id, leg.chain_id, leg.asset) == (owed, where.chain_id, wanted):
                proof = tuple(content.leg_tree.proof(leg))
                return Proof(content.batch.epoch, content.batch.timestamp, leg, proof)
        message = f"no leg closes 0x{wanted.hex()} of account 0x{owed.hex()} on chain {where.name} now"
        raise Refused(Problem("no_leg", message))

    async def batch(self, epoch: int | None = None) -> QuorumBatch:
        """A signed batch with everything in it; the newest where no epoch is given. Its signatures and roots are
        checked here.

        Raises:
            Refused: `not_found` for an epoch that the node does not know.
            Unavailable: the node does not answer, has no batch yet, or gives one that no quorum signed.

        Example:
            batch = (await client.batch()).content.batch
        """
        deployment = await self.deployment()
        path = f"/v1/batches/{'latest' if epoch is None else epoch}"
        answer = await self._node.ask("GET", path)
        if answer is None:
            raise Unavailable(f"{self.node_url}: no batch is signed yet")
        try:
            quorum = from_json(QuorumBatch, answer)
            batch = quorum.content.batch
            check_quorum(batch_digest(deployment, batch), quorum.signatures, deployment.attestors, deployment.threshold)
            if with_roots(quorum.content) != batch or epoch not in (None, batch.epoch):
                raise ValueError("its roots are not those of its leaves, or it is of another epoch")
        except (ValueError, TypeError) as error:
            raise Unavailable(f"{self.node_url}{path}: no signed batch: {error!s:.200}") from None
        return quorum

    async def liquidations(self) -> schema.Liquidations:
        """Open liquidation legs with what is conceded now, and what the node's liquidator did.

        Example:
            legs = (await client.liquidations()).legs
        """
        return await self._answer(schema.Liquidations, "GET", "/v1/liquidations")

    async def netting(self, *, accounts: int = 20) -> schema.NettingFigures:
        """What netting saves: exposure, margin and payments, gross and net, with `accounts` of those it saves most.

        Example:
            saved = (await client.netting()).margin.efficiency
        """
        return await self._answer(schema.NettingFigures, "GET", f"/v1/netting?accounts={accounts}")

    async def status(self) -> schema.Status:
        """What the node sees of its chains and does.

        Example:
            ready = (await client.status()).ready
        """
        return await self._answer(schema.Status, "GET", "/v1/status")

    async def get(self, path: str) -> Any:
        """Any other question to the node: the JSON that it answers to a path.

        Example:
            figures = await client.get("/v1/netting?history=0")
        """
        return await self._node.ask("GET", path)

    # --- permits ---------------------------------------------------------------------------------------------------

    async def request(
        self, chain: ChainLike, action: Action, *, deadline: int = DEADLINE_SECONDS, nonce: int | None = None
    ) -> PermitItem:
        """A request for a permit of `action` on a chain, signed by the owner and not yet sent: `ask` sends it.

        `deadline` is when the permit ends, in unix seconds or seconds from the chain's head, at most 300 after it.
        `nonce` is never used twice by the account on that chain; by default a new one.

        Raises:
            NoSigner: the client only reads.
            BadArgument: a Trade, which its orders ask for; or a time or chain that is none.

        Example:
            request = await client.request("A", Withdraw(client.account_id(), token, 5_000_000, client.address))
            permit = await client.ask(request)
        """
        return signed_request(
            await self.deployment(), await self._unsigned(chain, action, deadline, nonce), self.signer
        )

    async def ask(self, request: PermitItem, *, node: str | None = None, attempts: int | None = None) -> SignedPermit:
        """Have the attestors sign a permit. Nothing is believed but a quorum's signatures over exactly this request.

        The same request is sent again where some attestors signed and too few, or where no answer came: a new one
        would find the margin taken by the old one. At most `attempts` times (the client's own by default); `node`
        asks another node.

        Raises:
            Refused: by the attestors, and why.
            Unavailable: no answer that counts, every time.

        Example:
            permit = await client.ask(request)
        """
        deployment = await self.deployment()
        failure: Refused | Unavailable | None = None
        for attempt in range(self._attempts if attempts is None else attempts):
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                answer = await self._node.ask("POST", "/v1/permits", to_json(request), node)
            except Refused as refused:
                if "refusals" not in refused.problem.details:
                    raise
                failure = refused
            except Unavailable as unavailable:
                failure = unavailable
            else:
                try:
                    return granted(deployment, request, answer if isinstance(answer, Mapping) else {})
                except ValueError as error:
                    failure = Unavailable(f"{node or self.node_url}/v1/permits: no permit: {error}")
        if failure is None:
            raise BadArgument("attempts", attempts, "at least 1")
        raise failure

    async def permit(
        self, chain: ChainLike, action: Action, *, deadline: int = DEADLINE_SECONDS, nonce: int | None = None
    ) -> SignedPermit:
        """Sign a request for a permit and have the attestors sign it: `request` and `ask` in one. For acts that
        somebody else sends, like an integrator's contract.

        Example:
            permit = await client.permit("C", Reserve(client.account_id(), lender, 500 * 10**18, 0, until))
            lender.functions.reserve(to_abi(permit.item.action), *permit.calldata).transact()
        """
        return await self.ask(await self.request(chain, action, deadline=deadline, nonce=nonce))

    async def sign_order(self, chain: ChainLike, order: Order) -> SignedOrder:
        """Sign an order of the signer's, for whoever takes it.

        Example:
            order = await client.sign_order("B", await client.order("B", "ETH-PERP", "-1", "3000"))
        """
        where = await self.chain(chain)
        signature = signed_order(await self.deployment(), where.chain_id, order, self.signer)
        return SignedOrder(where.chain_id, order, signature)

    async def request_typed_data(self, request: PermitItem) -> dict[str, Any]:
        """What an owner signs to ask for a permit, as `eth_signTypedData_v4` takes it."""
        return request_typed_data(await self.deployment(), request)

    async def order_typed_data(self, chain: ChainLike, order: Order) -> dict[str, Any]:
        """What an owner signs to place an order, as `eth_signTypedData_v4` takes it."""
        return order_typed_data(await self.deployment(), (await self.chain(chain)).chain_id, order)

    async def _unsigned(self, chain: ChainLike, action: Action, deadline: int, nonce: int | None = None) -> PermitItem:
        if isinstance(action, Trade):
            raise BadArgument("action", "Trade", "an act of one owner: a trade is asked for by its two orders")
        where = await self.chain(chain)
        ends = await self.time(chain, deadline)
        return request_for(await self.deployment(), where.chain_id, action, ends, nonce)

    async def _chain_ids(self, chains: Sequence[ChainLike]) -> list[int]:
        return [(await self.chain(chain)).chain_id for chain in chains]
