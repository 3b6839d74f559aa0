"""The devnet's Iris, Circle's attestation service: a process that signs messages once their block is final.

`python -m keeper.devnet.attester --deployment FILE --port PORT` answers `GET /v2/messages/{sourceDomainId}` with
`transactionHash=` as Circle's does: 404 for a transaction it does not know, `pending_confirmations` until the block is
final, then `complete` with message and attestation. It remembers nothing: nonces follow from the transaction. Circle's
service finds messages by nonce too, this one does not.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from eth_utils.crypto import keccak
from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse

from keeper.attest.signatures import sign_digest
from keeper.chain.cctp import HEADER, BurnMessage, CctpError, sent_messages
from keeper.chain.rpc import Rpc, RpcError, RpcUnavailable, understood
from keeper.state.deployment import ChainDeployment, Deployment

from .chains import CIRCLE, FINAL, account

CONFIRMED = 1_000
"""Circle's threshold below which a message is attested before its block is final."""
_BASIS_POINTS = 10_000


class Attester:
    """Finds messages on the chains of a deployment and signs them.

    `fee_bps` of a burn is kept as its fee, at most what its sender allows, rounded down.
    """

    def __init__(self, deployment: Deployment, key: bytes, fee_bps: int = 0) -> None:
        self._chains: dict[int, ChainDeployment] = {
            chain.cctp.domain: chain for chain in deployment.chains.values() if chain.cctp is not None
        }
        self._rpcs = {domain: Rpc(chain.rpc) for domain, chain in self._chains.items()}
        self._key = key
        self._fee_bps = fee_bps

    async def aclose(self) -> None:
        for rpc in self._rpcs.values():
            await rpc.aclose()

    async def messages(self, domain: int, tx_hash: str) -> list[dict[str, Any]]:
        """Iris's entries for the burns of one transaction; empty where there are none.

        Raises:
            RpcError, RpcUnavailable: the chain does not answer.
        """
        if domain not in self._chains:
            return []
        rpc, cctp = self._rpcs[domain], self._chains[domain].cctp
        assert cctp is not None
        with understood(rpc):
            receipt, final = await rpc.batch(
                [("eth_getTransactionReceipt", [tx_hash]), ("eth_getBlockByNumber", ["finalized", False])]
            )
            if receipt is None:
                return []
            finality = FINAL if int(receipt["blockNumber"], 16) <= int(final["number"], 16) else CONFIRMED
            sent = sent_messages(receipt["logs"], cctp.transmitter)
        return [
            self._entry(message, keccak(domain.to_bytes(4, "big") + bytes.fromhex(tx_hash[2:]) + bytes([i])), finality)
            for i, message in enumerate(sent)
        ]

    def _entry(self, message: bytes, nonce: bytes, finality: int) -> dict[str, Any]:
        try:
            burn = BurnMessage.read(message)
        except CctpError:
            burn = None
        least = int.from_bytes(message[140:144], "big")
        entry: dict[str, Any] = {"cctpVersion": 2, "decodedMessage": None, "delayReason": None}
        if finality < min(least, FINAL):
            pending = {"message": "0x", "attestation": "PENDING", "eventNonce": "", "status": "pending_confirmations"}
            return entry | pending
        filled = message[:12] + nonce + message[44:144] + finality.to_bytes(4, "big") + message[HEADER:]
        if burn is not None:
            fee = min(burn.amount * self._fee_bps // _BASIS_POINTS, burn.max_fee)
            filled = filled[: HEADER + 164] + fee.to_bytes(32, "big") + filled[HEADER + 196 :]
            entry["decodedMessage"] = _decoded(BurnMessage.read(filled))
        return entry | {
            "message": "0x" + filled.hex(),
            "attestation": "0x" + sign_digest(keccak(filled), self._key).hex(),
            "eventNonce": "0x" + nonce.hex(),
            "status": "complete",
        }


def _decoded(burn: BurnMessage) -> dict[str, Any]:
    """For people; in Iris's words, numbers as text."""
    return {
        "sourceDomain": str(burn.source_domain),
        "destinationDomain": str(burn.destination_domain),
        "nonce": "0x" + burn.nonce.hex(),
        "sender": "0x" + burn.sender.hex(),
        "recipient": "0x" + burn.recipient.hex(),
        "minFinalityThreshold": str(burn.min_finality),
        "finalityThresholdExecuted": str(burn.finality),
        "decodedMessageBody": {
            "burnToken": "0x" + burn.burn_token.hex(),
            "mintRecipient": "0x" + burn.mint_recipient.hex(),
            "amount": str(burn.amount),
            "messageSender": "0x" + burn.message_sender.hex(),
            "maxFee": str(burn.max_fee),
            "feeExecuted": str(burn.fee),
        },
    }


def create_app(attester: Attester) -> FastAPI:
    """The service over HTTP."""
    app = FastAPI(title="attester of the devnet", docs_url=None, redoc_url=None)

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @app.get("/v2/messages/{domain}")
    async def messages(domain: int, tx_hash: Annotated[str, Query(alias="transactionHash")]) -> JSONResponse:
        if not _is_hash(tx_hash):
            return JSONResponse({"code": 400, "message": "transactionHash: 0x and 64 hex digits are wanted"}, 400)
        try:
            found = await attester.messages(domain, tx_hash)
        except (RpcError, RpcUnavailable) as error:
            return JSONResponse({"code": 503, "message": str(error)}, 503)
        if not found:
            return JSONResponse({"code": 404, "message": "no message of that transaction"}, 404)
        return JSONResponse({"messages": found})

    return app


def _is_hash(text: str) -> bool:
    try:
        return text.startswith("0x") and len(bytes.fromhex(text[2:])) == 32
    except ValueError:
        return False


async def _serve(deployment: Deployment, port: int, fee_bps: int) -> None:
    attester = Attester(deployment, account(CIRCLE).key, fee_bps)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(attester), host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off"
        )
    )

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    # The inner serve: the outer one would take the signals for itself.
    await server._serve()
    await attester.aclose()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on the loopback until ended."""
    parser = argparse.ArgumentParser(description="Attest shipments between the devnet's chains.")
    parser.add_argument("--deployment", type=Path, required=True, help="the deployments file")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fee-bps", type=int, default=0, help="kept of every shipment, basis points")
    chosen = parser.parse_args(arguments)
    asyncio.run(_serve(Deployment.load(chosen.deployment), chosen.port, chosen.fee_bps))


if __name__ == "__main__":
    main()
