"""What an account's margin would be: the arithmetic of `keeper margin whatif` on the account as this node sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keeper.margin.explain import binding
from keeper.margin.listing import UnknownAsset
from keeper.margin.owner import owner_book
from keeper.margin.portfolio import Portfolio
from keeper.margin.report import AccountReport
from keeper.margin.valuation import Valuation
from keeper.margin.whatif import Reserve, Trade, Transfer, WhatIf, changed, whatif
from keeper.market.marks import Marks
from keeper.node.node import Node
from keeper.schema import CashChange, Change, DepositChange, ReserveChange, TradeChange, WhatIfRequest, WithdrawChange
from keeper.state.deployment import Token
from keeper.state.ids import ZERO32, AccountId, AssetId, IdError, address, is_token, token_id
from keeper.state.world import MarginAccount, World, components

from .problems import ApiError
from .requests import read_account, read_asset
from .views import figures

ADVICE = (
    "no permit: judged at this node's final blocks and marks, without the permits and legs that are live; the "
    "attestors judge with every subset of them, and want a buffer free"
)
_MOST = 2**127
"""Amounts and prices are less; the contracts' are too."""
_HYPOTHETICAL = AccountId(ZERO32)


@dataclass
class _Changes:
    """The changes of a request as `keeper.margin.whatif` takes them. Scaled by 1e18."""

    trades: list[Trade] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    reserves: list[Reserve] = field(default_factory=list)


async def answer_of(node: Node, request: WhatIfRequest) -> dict[str, Any]:
    """The account before and after the changes, computed beside the event loop.

    Raises:
        ApiError: 404 for an account that no chain knows, 422 for a change that cannot be.
        NotReady, MarkError: a chain was not read, or something has no mark.
    """
    node.view.require_started()
    world = node.world()
    account = _account(node, world, request)
    marks = node.observer.marks()
    changes = _changes(node, request.changes, account, marks)

    def compute() -> tuple[WhatIf, str | None, str | None]:
        if account.account_id == _HYPOTHETICAL:
            book = Portfolio(account, 0, {}, {})
        else:
            book = owner_book(world, node.listing, account, marks, node.model)
        after = changed(book, changes.trades, changes.transfers, marks.funding, changes.reserves)
        _check_held(after)
        valuation = Valuation.of(marks, node.model, {*book.assets, *after.assets})
        found = whatif(book, marks, node.model, changes.trades, changes.transfers, valuation, changes.reserves)
        return found, binding(book, valuation), binding(after, valuation)

    found, before, after = await asyncio.to_thread(compute)
    known = account.account_id != _HYPOTHETICAL
    return {
        "advice": ADVICE,
        "accountId": "0x" + account.account_id.hex() if known else None,
        "chains": list(account.chains),
        "time": marks.time,
        "before": _figures(found.before, before),
        "after": _figures(found.after, after),
        "changeOfFree": str(found.change_of_free),
    }


def _figures(report: AccountReport, scenario: str | None) -> dict[str, Any]:
    return figures(report) | {"binding": scenario}


def _account(node: Node, world: World, request: WhatIfRequest) -> MarginAccount:
    """The one margin account that is asked about."""
    unknown = [chain for chain in request.chains or () if chain not in node.deployment.chains]
    if unknown:
        raise ApiError.malformed("body.chains", unknown[0], f"chains of the deployment: {_listed(node)}")
    if request.account is None:
        return MarginAccount(_HYPOTHETICAL, tuple(sorted(request.chains or node.deployment.chains)))
    account = read_account(request.account, "body.account")
    groups = components(world, account)
    if not groups:
        raise ApiError.not_found(
            f"no chain knows account 0x{account.hex()}; leave out `account` for one that holds nothing",
            "body.account",
            request.account,
        )
    if request.chains is None and len(groups) == 1:
        return MarginAccount(account, groups[0])
    wanted = set(request.chains or ())
    found = next((group for group in groups if wanted and wanted <= set(group)), None)
    if found is None:
        choices = " or ".join(str(list(group)) for group in groups)
        raise ApiError.malformed("body.chains", request.chains, f"chains of one of its margin accounts: {choices}")
    return MarginAccount(account, found)


def _changes(node: Node, asked: Sequence[Change], account: MarginAccount, marks: Marks) -> _Changes:
    found = _Changes()
    for number, change in enumerate(asked):
        where = f"body.changes.{number}"
        chain = None if isinstance(change, CashChange) else change.chain
        if chain is not None and chain not in account.chains:
            raise ApiError.malformed(f"{where}.chain", chain, f"a chain of the margin account: {list(account.chains)}")
        if isinstance(change, TradeChange):
            found.trades.append(_trade(node, change, where, marks))
        elif isinstance(change, CashChange):
            _bounded(f"{where}.amount", change.amount, least=1 - _MOST, unit="USD 1e18")
            found.transfers.append(Transfer(change.amount))
        elif isinstance(change, ReserveChange):
            _bounded(f"{where}.amount", change.amount, unit="USD 1e18")
            if not 0 <= change.cash_part <= change.amount:
                raise ApiError.malformed(
                    f"{where}.cashPart", change.cash_part, "between 0 and the amount", unit="USD 1e18"
                )
            found.reserves.append(Reserve(change.amount, change.cash_part))
        else:
            found.transfers.append(_transfer(node, change, where))
    return found


def _trade(node: Node, change: TradeChange, where: str, marks: Marks) -> Trade:
    asset = read_asset(change.asset, f"{where}.asset")
    if is_token(asset):
        raise ApiError.malformed(f"{where}.asset", change.asset, "an instrument; a token is deposited or withdrawn")
    try:
        node.listing.underlying_of(asset)
    except UnknownAsset as error:
        raise ApiError.malformed(f"{where}.asset", change.asset, f"an instrument that is listed ({error})") from None
    _bounded(f"{where}.size", change.size, least=1 - _MOST, unit="1e18")
    if change.size == 0:
        raise ApiError.malformed(f"{where}.size", 0, "a size that is not 0", unit="1e18")
    price = change.price
    if price is None:
        price = node.model.price(asset, marks)
    else:
        _bounded(f"{where}.price", price, unit="USD 1e18")
    return Trade(asset, change.size, price)


def _transfer(node: Node, change: DepositChange | WithdrawChange, where: str) -> Transfer:
    chain = node.deployment.chains[change.chain]
    tokens = (chain.settlement, *chain.collateral)
    token = next((each for each in tokens if change.token in (each.symbol, "0x" + each.address.hex())), None)
    token = token or _by_address(tokens, change.token)
    if token is None:
        listed = ", ".join(each.symbol for each in tokens)
        raise ApiError.malformed(f"{where}.token", change.token, f"a token of chain {change.chain}: {listed}")
    _bounded(f"{where}.amount", change.amount, unit=f"smallest units of {token.symbol}")
    amount = change.amount * 10 ** (18 - token.decimals)
    _bounded(f"{where}.amount", amount, unit="1e18")
    signed = amount if isinstance(change, DepositChange) else -amount
    return Transfer(signed, None if token.settlement else token_id(change.chain, token.address))


def _by_address(tokens: Sequence[Token], text: str) -> Token | None:
    try:
        wanted = address(text)
    except IdError:
        return None
    return next((each for each in tokens if each.address == wanted), None)


def _bounded(where: str, value: int, *, least: int = 1, unit: str) -> None:
    if not least <= value < _MOST:
        wanted = "more than 0 and less than 2**127" if least == 1 else "between -2**127 and 2**127"
        raise ApiError.malformed(where, value, wanted, unit)


def _check_held(after: Portfolio) -> None:
    short: list[tuple[AssetId, int]] = [(asset, amount) for asset, amount in after.collateral.items() if amount < 0]
    if short:
        asset, amount = short[0]
        raise ApiError.malformed(
            "body.changes", amount, f"no more withdrawn of token 0x{asset.hex()} than the account has", unit="1e18"
        )


def _listed(node: Node) -> str:
    return ", ".join(map(str, sorted(node.deployment.chains)))
