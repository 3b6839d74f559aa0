"""What other attestors tell of, who of them did, and what of it nobody can have signed."""

from __future__ import annotations

from collections.abc import Callable

from keeper.attest.requests import DEADLINE_SECONDS
from keeper.attest.signatures import SignatureError, recover
from keeper.clearing.effects import effect_of
from keeper.clearing.exposure import marked_assets, takeover_terms
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import MarginModel
from keeper.market.marks import Marks
from keeper.state.deployment import Deployment
from keeper.state.ids import Address
from keeper.state.live import LegItem, LiveItem
from keeper.state.problem import Problem
from keeper.state.world import component_of

from .refusal import CATCH_UP_SECONDS, HEAD_TOLERANCE_SECONDS, Refused
from .view import ChainsView


def check_told(
    item: LiveItem,
    deployment: Deployment,
    listing: Listing,
    model: MarginModel,
    view: ChainsView,
    marks: Callable[[], Marks],
) -> None:
    """Refuse a request that no attestor can have signed: it would count for ever, and have no effect that is known.

    Raises:
        Refused: a deadline that is too far, or an act on what is not listed.
    """
    if isinstance(item, LegItem):
        return
    latest = view.followers[item.chain_id].head.block.time + int(CATCH_UP_SECONDS) + HEAD_TOLERANCE_SECONDS
    if item.permit.deadline > latest + DEADLINE_SECONDS:
        most = latest + DEADLINE_SECONDS
        told = f"the deadline {item.permit.deadline} of a permit that a peer tells of is later than any that is signed"
        deadline = item.permit.deadline
        raise Refused.of(Problem("deadline", told, "permit.deadline", deadline, f"at most {most}", "unix seconds"))
    try:
        prices = {asset: (model.price(asset, marks()),) for asset in marked_assets([item])}
        for account_id in item.accounts:
            terms = takeover_terms(item, account_id, (), prices)[0]
            account = component_of(view.final_world(), account_id, item.chain_id)
            for asset in effect_of(item, account, listing, deployment.profile, terms).assets:
                listing.underlying_of(asset)
    except UnknownAsset as error:
        raise Refused("unknown_asset", str(error)) from None


def recover_attestor(deployment: Deployment, digest: bytes, signature: bytes) -> Address:
    """Which attestor signed a proposal. Refused where it is none."""
    try:
        signer = recover(digest, signature)
    except SignatureError as error:
        raise Refused("proposer_signature", str(error)) from None
    if signer not in deployment.attestors:
        raise Refused("proposer_signature", f"0x{signer.hex()} is not an attestor")
    return signer
