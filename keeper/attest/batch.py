"""The batch: everything the attestors sign in one epoch, built from one cut and compared leaf by leaf.

Building is pure: the same world, cut and marks give the same bytes. Attestors agree by recomputing every leaf from the
proposer's marks and comparing within a tolerance; legs are checked by their properties elsewhere, not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel
from keeper.margin.owner import with_owner_concentration
from keeper.margin.portfolio import portfolios
from keeper.margin.report import AccountReport, evaluate_at, mark_leaves
from keeper.margin.valuation import Valuation
from keeper.market.inputs import MarkInputs, marks_of
from keeper.market.marks import Marks
from keeper.state.batch import (
    UNIT,
    ChainCut,
    LiquidationLeaf,
    MarginBatch,
    MarginLeaf,
    MarkLeaf,
    SettlementLeaf,
)
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, AssetId, has_margin, is_token, parse_instrument, perpetual
from keeper.state.world import MarginAccount, World

from .codec import BatchDomain, cut_hash, digest
from .merkle import MerkleTree

VALID_SECONDS = 300
"""A batch may be posted this long after its timestamp."""

LEAF_TOLERANCE = 2 * 10**12
"""2e-6 USD: two roundings of 1e-6."""

NOTIONAL_TOLERANCE = 10**9
"""Divisor of gross notional: 1e-9 of it, for the order of floating-point sums."""


@dataclass(frozen=True)
class BatchContent:
    """A batch with all its leaves, and the `inputs` that its marks follow from. `legs` and `settlements` may be empty:
    their trees are then absent."""

    batch: MarginBatch
    cut: tuple[ChainCut, ...]
    inputs: MarkInputs
    marks: tuple[MarkLeaf, ...]
    accounts: tuple[MarginLeaf, ...]
    legs: tuple[LiquidationLeaf, ...] = ()
    settlements: tuple[SettlementLeaf, ...] = ()

    @cached_property
    def account_tree(self) -> MerkleTree:
        return MerkleTree.of(self.accounts)

    @cached_property
    def mark_tree(self) -> MerkleTree:
        return MerkleTree.of(self.marks)

    @cached_property
    def leg_tree(self) -> MerkleTree:
        return MerkleTree.of(self.legs)

    @cached_property
    def settlement_tree(self) -> MerkleTree:
        return MerkleTree.of(self.settlements)

    @cached_property
    def prices(self) -> Marks:
        """The marks that its inputs give."""
        return marks_of(self.inputs, (leaf.asset for leaf in self.marks if not is_token(leaf.asset)))

    @cached_property
    def leaves_by_account(self) -> Mapping[tuple[AccountId, int], MarginLeaf]:
        return {(leaf.account_id, leaf.chain_id): leaf for leaf in self.accounts}

    def chain_cut(self, chain_id: int) -> ChainCut | None:
        return next((entry for entry in self.cut if entry.chain_id == chain_id), None)

    @property
    def late(self) -> tuple[int, ...]:
        """Chains of the cut that were late."""
        return tuple(entry.chain_id for entry in self.cut if entry.late)


def batch_domain(deployment: Deployment) -> BatchDomain:
    """The salt-only domain in which a batch is signed once for every chain (CM-06)."""
    return BatchDomain(deployment.name, deployment.version, deployment.deployment_id)


def batch_digest(deployment: Deployment, batch: MarginBatch) -> bytes:
    return digest(batch_domain(deployment), batch)


def listed_assets(deployment: Deployment) -> list[AssetId]:
    """What gets a mark in every batch: a perpetual per underlying, the futures and options that are listed, expired
    ones too, and every chain's collateral tokens; ascending."""
    tokens = (asset for chain in deployment.chains.values() for asset in chain.token_assets())
    return sorted([*(perpetual(name) for name in deployment.underlyings()), *deployment.instruments, *tokens])


def reports_at(world: World, marks: Marks, model: MarginModel, listing: Listing) -> list[AccountReport]:
    """A report for every margin account of owners; nothing is required of reserved accounts.

    Each asset is priced once, and so is each account's delta, of which its owner's other accounts are charged for.
    """
    books = [p for p in portfolios(world, listing) if has_margin(p.account.account_id)]
    valuation = Valuation.of(marks, model, (asset for p in books for asset in p.assets))
    return evaluate_at(with_owner_concentration(books, valuation), valuation)


def due_accounts(reports: Iterable[AccountReport]) -> Mapping[MarginAccount, AccountReport]:
    """Margin accounts whose equity is below maintenance margin."""
    return {report.account: report for report in reports if report.status == "liquidatable"}


def margin_leaves(reports: Iterable[AccountReport], minimum_equity: int) -> tuple[MarginLeaf, ...]:
    """One leaf per linked chain of every account, ascending by account and chain.

    Accounts below the minimum equity with nothing required of them have none.
    """
    leaves = [
        _leaf(r, chain)
        for r in reports
        if r.equity >= minimum_equity or r.initial_margin > 0
        for chain in r.account.chains
    ]
    return tuple(sorted(leaves, key=lambda leaf: (leaf.account_id, leaf.chain_id)))


def _leaf(report: AccountReport, chain_id: int) -> MarginLeaf:
    return MarginLeaf(
        report.account.account_id, chain_id, report.equity, report.initial_margin, report.maintenance_margin
    )


def build_batch(
    deployment: Deployment,
    model: MarginModel,
    cut: Sequence[ChainCut],
    inputs: MarkInputs,
    reports: Sequence[AccountReport],
    legs: Sequence[LiquidationLeaf],
    minimum_equity: int,
    settlements: Sequence[SettlementLeaf] = (),
) -> BatchContent:
    """Assemble the batch of a cut. `reports` are of the holdings at the cut, at the marks that `inputs` give.

    The timestamp is the largest head time among chains that are not late, the epoch that time ÷ EPOCH_SECONDS.
    """
    ordered = tuple(sorted(cut, key=lambda entry: entry.chain_id))
    timestamp = max(entry.head_time for entry in ordered if not entry.late)
    content = BatchContent(
        batch=MarginBatch(
            epoch=timestamp // deployment.profile.epoch_seconds,
            timestamp=timestamp,
            valid_until=timestamp + VALID_SECONDS,
            accounts_root=bytes(32),
            marks_root=bytes(32),
            liquidations_root=bytes(32),
            settlements_root=bytes(32),
            cut_hash=cut_hash(ordered),
            parameters_hash=deployment.parameters_hash,
            attestor_set_id=deployment.attestor_set_id,
        ),
        cut=ordered,
        inputs=inputs,
        marks=tuple(
            mark_leaves(marks_of(inputs, deployment.instruments), model, listed_assets(deployment)),
        ),
        accounts=margin_leaves(reports, minimum_equity),
        legs=tuple(sorted(legs, key=lambda leg: (leg.account_id, leg.chain_id, leg.asset))),
        settlements=tuple(sorted(settlements, key=lambda leaf: (leaf.cycle, leaf.account_id, leaf.chain_id))),
    )
    return replace(content, batch=with_roots(content))


def with_roots(content: BatchContent) -> MarginBatch:
    """The content's batch with the roots that its leaves have."""
    return replace(
        content.batch,
        accounts_root=content.account_tree.root,
        marks_root=content.mark_tree.root,
        liquidations_root=content.leg_tree.root,
        settlements_root=content.settlement_tree.root,
    )


def structural_faults(content: BatchContent, deployment: Deployment) -> list[str]:
    """What is wrong with a proposed batch whatever the state of the chains: header, roots, order, listing."""
    batch, cut = content.batch, content.cut
    faults = []
    if with_roots(content) != batch:
        faults.append("the roots are not those of the leaves")
    if cut_hash(cut) != batch.cut_hash:
        faults.append("cutHash is not that of the cut")
    if [entry.chain_id for entry in cut] != sorted(deployment.chains):
        faults.append(f"the cut names chains {[e.chain_id for e in cut]}, wanted {sorted(deployment.chains)}")
    if batch.attestor_set_id != deployment.attestor_set_id:
        faults.append(f"attestor set {batch.attestor_set_id}, ours is {deployment.attestor_set_id}")
    if batch.parameters_hash != deployment.parameters_hash:
        faults.append(f"parameters 0x{batch.parameters_hash.hex()}, ours are 0x{deployment.parameters_hash.hex()}")
    if batch.epoch != batch.timestamp // deployment.profile.epoch_seconds:
        faults.append(f"epoch {batch.epoch} is not that of timestamp {batch.timestamp}")
    if batch.valid_until != batch.timestamp + VALID_SECONDS:
        faults.append(f"valid until {batch.valid_until}, wanted {batch.timestamp + VALID_SECONDS}")
    timely = [entry.head_time for entry in cut if not entry.late]
    if not timely or max(timely) != batch.timestamp:
        faults.append(f"timestamp {batch.timestamp} is not the largest head time of the cut")
    if sorted(leaf.asset for leaf in content.marks) != listed_assets(deployment):
        faults.append("the marks are not those of the listed assets")
    faults += _input_form(content, deployment)
    accounts = [(leaf.account_id, leaf.chain_id) for leaf in content.accounts]
    legs = [(leg.account_id, leg.chain_id, leg.asset) for leg in content.legs]
    entries = [(leaf.cycle, leaf.account_id, leaf.chain_id) for leaf in content.settlements]
    for wrong, message in (
        (len(set(accounts)) != len(accounts), "two account leaves for one account and chain"),
        (len(set(legs)) != len(legs), "two leg leaves for one account, chain and asset"),
        (len(set(entries)) != len(entries), "two settlement leaves for one cycle, account and chain"),
    ):
        if wrong:
            faults.append(message)
    return faults


def _input_form(content: BatchContent, deployment: Deployment) -> list[str]:
    """What is wrong with the inputs whatever the state of the chains."""
    inputs, dated = content.inputs, set(deployment.instruments)
    names = [entry.underlying for entry in inputs.underlyings]
    settled = [entry.asset for entry in inputs.settled]
    faults = []
    if inputs.time != content.batch.timestamp:
        faults.append(f"inputs of {inputs.time}, the batch is of {content.batch.timestamp}")
    if names != list(deployment.underlyings()):
        faults.append(f"inputs for {', '.join(names)}, wanted {', '.join(deployment.underlyings())}")
    if any(entry.index <= 0 or entry.perpetual <= 0 or entry.vol < 0 for entry in inputs.underlyings):
        faults.append("an input that is not positive")
    if [entry.asset for entry in inputs.funding] != sorted(perpetual(name) for name in names):
        faults.append("funding is not that of every underlying's perpetual")
    if settled != sorted(set(settled)):
        faults.append("settlement prices are not ascending by instrument, each once")
    faults += [
        f"0x{asset.hex()} is settled and not listed, or not expired"
        for asset in settled
        if asset not in dated or parse_instrument(asset).expiry >= inputs.time
    ]
    return faults


def mark_faults(content: BatchContent, model: MarginModel) -> list[str]:
    """Where the mark leaves are not those of the inputs.

    Figures may differ by 2e-6 USD or 1e-9 of the mark, the larger: options are priced in floating point.
    """
    faults = []
    recomputed = mark_leaves(content.prices, model, [leaf.asset for leaf in content.marks])
    for mark, own in zip(content.marks, recomputed, strict=True):
        figures = (
            ("price", mark.price, own.price),
            ("long requirement", mark.long_requirement, own.long_requirement),
            ("short requirement", mark.short_requirement, own.short_requirement),
        )
        name = f"mark 0x{mark.asset.hex()}"
        faults += _differences(name, figures, LEAF_TOLERANCE + own.price // NOTIONAL_TOLERANCE)
        if own.settled_at:
            faults += _differences(name, figures[:1], 0)
        exact = (("funding index", mark.funding_index, own.funding_index), ("expiry", mark.settled_at, own.settled_at))
        faults += _differences(name, exact, 0)
    return faults


def leaf_faults(
    content: BatchContent, reports: Sequence[AccountReport], model: MarginModel, minimum_equity: int
) -> list[str]:
    """Where the proposed mark and margin leaves differ from ours, recomputed from the proposed inputs.

    Figures may differ by 2e-6 USD or 1e-9 of the account's gross notional, the larger.
    """
    faults = mark_faults(content, model)
    gross = {(r.account.account_id, c): r.gross_notional for r in reports for c in r.account.chains}
    figures_of = {(r.account.account_id, c): _leaf(r, c) for r in reports for c in r.account.chains}
    ours = {(leaf.account_id, leaf.chain_id): leaf for leaf in margin_leaves(reports, minimum_equity)}
    theirs = content.leaves_by_account
    for key in sorted(ours.keys() | theirs.keys()):
        name = f"account 0x{key[0].hex()} on chain {key[1]}"
        own, given = figures_of.get(key), theirs.get(key)
        tolerance = max(LEAF_TOLERANCE, gross.get(key, 0) // NOTIONAL_TOLERANCE)
        if given is None or key not in ours:
            # Whether there is a leaf at all is a matter of rounding only where our own figures are at the threshold.
            near = own is not None and abs(own.equity - minimum_equity) <= tolerance and own.initial_margin <= tolerance
            if not near:
                faults.append(f"{name}: {'the proposal has no leaf' if given is None else 'we have no leaf'}")
                continue
        if own is not None and given is not None:
            faults += _differences(
                name,
                (
                    ("equity", given.equity, own.equity),
                    ("initial margin", given.initial_margin, own.initial_margin),
                    ("maintenance margin", given.maintenance_margin, own.maintenance_margin),
                    ("escape limit", given.escape_limit, own.escape_limit),
                ),
                tolerance,
            )
    return faults


def _differences(name: str, figures: Iterable[tuple[str, int, int]], tolerance: int) -> list[str]:
    return [
        f"{name}: {figure} {given / UNIT:.6f}, ours is {own / UNIT:.6f}"
        for figure, given, own in figures
        if abs(given - own) > tolerance
    ]
