"""What an attestor checks of a cycle that somebody else planned: its properties, not that it would plan the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from keeper.margin.valuation import GRAIN
from keeper.state.batch import UNIT, SettlementLeaf
from keeper.state.ids import FUND, AccountId, transfer_target

from .settlement import Ledger, Terms, Vault, is_shipment


def broken(
    entries: Sequence[SettlementLeaf],
    ledgers: Iterable[Ledger],
    vaults: Mapping[int, Vault],
    terms: Terms,
    newest: int,
    *,
    carried: bool = False,
) -> list[str]:
    """What is wrong with a cycle, one line each; empty where it may be signed.

    `ledgers` and `vaults` are the attestor's own figures at the cut, `newest` the highest cycle number it knows of.
    Checked (CM-50): one cycle, of a new number, each leaf once and not for nothing. Without a fund's entry, per margin
    account the deltas sum to 0 over chains that are mutually linked, pay only negative balances up to 0 and from
    positive ones down to 0, and are worth it. With one, per chain they sum to 0 over accounts, the fund pays no more
    than it has and nobody gets more than its deficit. Nobody enters with an earlier entry unapplied. Shipments go from
    chains with too much to chains that are short, after these entries and all that is signed, no more than is there,
    in whole amounts of both tokens, each worth it, and fewer than the chains that have a position.

    A cycle that others signed earlier is `carried`: values and vaults have moved since, and another one may have been
    signed meanwhile, so how much is offset and shipped is not asked any more, only that every account's deltas sum to
    0: two cycles that do the same work move too much, and the next one moves it back. What the fund pays stays bounded.
    An account that is parting enters neither a new cycle nor a carried one.
    """
    faults = _form(entries, newest)
    known = [leaf for leaf in entries if leaf.chain_id in vaults]
    faults += [f"{_said(leaf)}: chain {leaf.chain_id} takes no part" for leaf in entries if leaf.chain_id not in vaults]
    by_place = {(each.account.account_id, chain): each for each in ledgers for chain in each.account.chains}
    offsets = [leaf for leaf in known if not is_shipment(leaf)]
    shipped = [leaf for leaf in known if is_shipment(leaf)]
    placed = [(leaf, by_place.get((leaf.account_id, leaf.chain_id))) for leaf in offsets]
    faults += [f"{_said(leaf)}: no such account on chain {leaf.chain_id}" for leaf, ledger in placed if ledger is None]
    found = [(leaf, ledger) for leaf, ledger in placed if ledger is not None]
    barred = {leaf.account_id for leaf, ledger in found if not ledger.may_enter and not carried}
    faults += [f"account 0x{account.hex()}: an earlier entry is not applied" for account in sorted(barred)]
    parting = {leaf.account_id for leaf, ledger in found if ledger.parting}
    faults += [f"account 0x{account.hex()}: an unlink of it is live" for account in sorted(parting)]
    if len({leaf.account_id for leaf in offsets} - {FUND}) > terms.most_accounts:
        faults.append(f"more than {terms.most_accounts} accounts enter")
    if any(leaf.account_id == FUND for leaf in offsets):
        faults += _cover_faults(found)
    else:
        faults += _sum_faults(found)
        if not carried:
            faults += _balance_faults(found, terms)
        else:
            faults += [
                f"{_said(leaf)}: takes {_usd(-leaf.cash_delta)} from what was {_usd(ledger.cash.get(leaf.chain_id, 0))}"
                for leaf, ledger in found
                if -leaf.cash_delta > 2 * max(0, ledger.cash.get(leaf.chain_id, 0))
            ]
    faults += _shipment_form(shipped, vaults, terms)
    if carried:
        for chain_id in sorted({leaf.chain_id for leaf in shipped}):
            amount = -sum(leaf.cash_delta for leaf in shipped if leaf.chain_id == chain_id)
            if amount > vaults[chain_id].available:
                faults.append(f"chain {chain_id}: ships {_usd(amount)} of {_usd(vaults[chain_id].available)}")
    return faults if carried else faults + _shipment_faults(shipped, offsets, vaults)


def _form(entries: Sequence[SettlementLeaf], newest: int) -> list[str]:
    faults = [f"{_said(leaf)}: cycle {leaf.cycle}" for leaf in entries if not 0 < leaf.cycle < 2**53]
    if len({leaf.cycle for leaf in entries}) > 1:
        faults.append(f"more than one cycle: {sorted({leaf.cycle for leaf in entries})}")
    faults += [
        f"{_said(leaf)}: cycle {leaf.cycle} is not later than {newest}" for leaf in entries if leaf.cycle <= newest
    ]
    places = Counter((leaf.account_id, leaf.chain_id) for leaf in entries)
    faults += [f"0x{a.hex()} on chain {c}: {n} entries" for (a, c), n in sorted(places.items()) if n > 1]
    faults += [
        f"{_said(leaf)}: {leaf.cash_delta} is 0 or no multiple of 1e-6 USD"
        for leaf in entries
        if not is_shipment(leaf) and (leaf.cash_delta == 0 or leaf.cash_delta % GRAIN)
    ]
    return faults


_Deltas = dict[tuple[AccountId, tuple[int, ...]], list[int]]


def _deltas(found: Sequence[tuple[SettlementLeaf, Ledger]]) -> _Deltas:
    deltas: _Deltas = {}
    for leaf, ledger in found:
        deltas.setdefault((ledger.account.account_id, ledger.account.chains), []).append(leaf.cash_delta)
    return dict(sorted(deltas.items()))


def _named(account_id: AccountId, chains: tuple[int, ...]) -> str:
    return f"account 0x{account_id.hex()} on chains {', '.join(map(str, chains))}"


def _sum_faults(found: Sequence[tuple[SettlementLeaf, Ledger]]) -> list[str]:
    return [f"{_named(*key)}: its deltas sum to {_usd(sum(own))}" for key, own in _deltas(found).items() if sum(own)]


def _balance_faults(found: Sequence[tuple[SettlementLeaf, Ledger]], terms: Terms) -> list[str]:
    faults = []
    for leaf, ledger in found:
        before = ledger.cash.get(leaf.chain_id, 0)
        after = before + leaf.cash_delta
        if leaf.cash_delta < 0 and after < 0:
            faults.append(f"{_said(leaf)}: takes {_usd(-leaf.cash_delta)} from a balance of {_usd(before)}")
        if leaf.cash_delta > 0 and (before >= 0 or after >= GRAIN):
            faults.append(f"{_said(leaf)}: pays {_usd(leaf.cash_delta)} into a balance of {_usd(before)}")
    faults += [
        f"{_named(*key)}: less than {_usd(terms.least_offset)} is offset"
        for key, own in _deltas(found).items()
        if sum(delta for delta in own if delta > 0) < terms.least_offset
    ]
    return faults


def _cover_faults(found: Sequence[tuple[SettlementLeaf, Ledger]]) -> list[str]:
    faults = []
    by_chain: dict[int, int] = {}
    got: dict[tuple[AccountId, tuple[int, ...]], tuple[int, int]] = {}
    for leaf, ledger in found:
        by_chain[leaf.chain_id] = by_chain.get(leaf.chain_id, 0) + leaf.cash_delta
        if leaf.account_id == FUND:
            cash = ledger.cash.get(leaf.chain_id, 0)
            if not -cash <= leaf.cash_delta < 0:
                faults.append(f"{_said(leaf)}: the fund has {_usd(cash)} and would pay {_usd(-leaf.cash_delta)}")
            continue
        if leaf.cash_delta < 0:
            faults.append(f"{_said(leaf)}: takes {_usd(-leaf.cash_delta)} beside the fund")
        key = (leaf.account_id, ledger.account.chains)
        got[key] = (got.get(key, (0, 0))[0] + leaf.cash_delta, ledger.deficit)
    faults += [f"chain {chain}: deltas sum to {_usd(total)}" for chain, total in sorted(by_chain.items()) if total]
    faults += [
        f"account 0x{account.hex()}: gets {_usd(total)} for a deficit of {_usd(deficit)}"
        for (account, _), (total, deficit) in sorted(got.items())
        if total > -(-deficit // GRAIN) * GRAIN
    ]
    return faults


def _shipment_form(shipped: Sequence[SettlementLeaf], vaults: Mapping[int, Vault], terms: Terms) -> list[str]:
    faults = []
    for leaf in shipped:
        target = transfer_target(leaf.account_id)
        if target is None or target not in vaults or target == leaf.chain_id:
            faults.append(f"{_said(leaf)}: nothing can be shipped to chain {target}")
            continue
        unit = max(vaults[leaf.chain_id].unit, vaults[target].unit)
        if -leaf.cash_delta < max(terms.least_transfer, 1) or leaf.cash_delta % unit:
            faults.append(f"{_said(leaf)}: {_usd(-leaf.cash_delta)} is too little, or no whole amount of both tokens")
    return faults


def _shipment_faults(
    shipped: Sequence[SettlementLeaf], offsets: Sequence[SettlementLeaf], vaults: Mapping[int, Vault]
) -> list[str]:
    faults = []
    position = {chain_id: vault.position for chain_id, vault in vaults.items()}
    for leaf in offsets:
        position[leaf.chain_id] += leaf.cash_delta
    sent: dict[int, int] = {}
    received: dict[int, int] = {}
    for leaf in shipped:
        target = transfer_target(leaf.account_id)
        if target is None or target not in vaults:
            continue
        amount = -leaf.cash_delta
        sent[leaf.chain_id] = sent.get(leaf.chain_id, 0) + amount
        received[target] = received.get(target, 0) + amount
    for chain_id, amount in sorted(sent.items()):
        most = min(max(0, -position[chain_id]), vaults[chain_id].available)
        if amount > most:
            faults.append(f"chain {chain_id}: ships {_usd(amount)} of {_usd(most)}")
    for chain_id, amount in sorted(received.items()):
        most = max(0, position[chain_id])
        if amount > most:
            faults.append(f"chain {chain_id}: receives {_usd(amount)} and is short of {_usd(most)}")
    places = sum(1 for value in position.values() if value)
    if shipped and len(shipped) > places - 1:
        faults.append(f"{len(shipped)} transfers between {places} chains that have a position")
    return faults


def _said(leaf: SettlementLeaf) -> str:
    target = transfer_target(leaf.account_id)
    if target is not None:
        return f"shipment from chain {leaf.chain_id} to {target}"
    return f"entry of 0x{leaf.account_id.hex()} on chain {leaf.chain_id}"


def _usd(value: int) -> str:
    return f"{value / UNIT:,.6f} USD"
