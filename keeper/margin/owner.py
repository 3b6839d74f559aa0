"""What is counted per owner: the concentration of all accounts that one person has, each by its own net delta.

Accounts of one address are one owner's where they share a chain, directly or over further ones: whoever controls the
address there controls both, and mutual links carry that to the chains of the same account. On a chain that they share
in no such way the address may be somebody else's (CM-09), whose positions must not raise anybody's requirement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from keeper.market.marks import Marks
from keeper.state.ids import Address, owner_of
from keeper.state.world import MarginAccount, World, accounts_of

from .listing import Listing
from .model import MarginModel
from .portfolio import Portfolio, portfolio
from .valuation import Valuation, ceil_usd


def with_owner_concentration(books: Sequence[Portfolio], valuation: Valuation) -> list[Portfolio]:
    """The same books in the same order, each with what its owner's other accounts hold; `books` are all there are.

    Deltas are rounded up to 1e-6 USD before they are summed, so the sums are exact. `valuation` has every asset held.
    Books of owners with one account are as they were.
    """
    filled = list(books)
    groups = [group for group in owner_groups([book.account for book in books]) if len(group) > 1]
    names = list(valuation.scenarios.held)
    if not groups or not names:
        return filled
    members = [number for group in groups for number in group]
    deltas = valuation.net_deltas([books[number] for number in members])
    held = {number: [ceil_usd(abs(usd)) for usd in row] for number, row in zip(members, deltas.tolist(), strict=True)}
    for group in groups:
        totals = [sum(held[number][u] for number in group) for u in range(len(names))]
        for number in group:
            others = (total - own for total, own in zip(totals, held[number], strict=True))
            filled[number] = replace(books[number], elsewhere=positive(dict(zip(names, others, strict=True))))
    return filled


def owner_books(
    world: World, listing: Listing, account: MarginAccount, marks: Marks, model: MarginModel
) -> list[Portfolio]:
    """The account's portfolio, and then those of its owner's other accounts, each with what the others hold.

    Raises UnknownAsset or MarkError where something held has no price.
    """
    accounts = [account, *others_of(world, account)]
    books = [portfolio(world, listing, each) for each in accounts]
    return with_owner_concentration(
        books, Valuation.of(marks, model, (asset for book in books for asset in book.assets))
    )


def owner_book(world: World, listing: Listing, account: MarginAccount, marks: Marks, model: MarginModel) -> Portfolio:
    """The account's portfolio with what its owner's other accounts hold. Raises as `owner_books`."""
    return owner_books(world, listing, account, marks, model)[0]


def others_of(world: World, account: MarginAccount) -> list[MarginAccount]:
    """The owner's other margin accounts, ordered by id and chains."""
    accounts = [each for each in accounts_of(world, owner_of(account.account_id)) if each != account]
    group = next(group for group in owner_groups([account, *accounts]) if 0 in group)
    return [accounts[number - 1] for number in group if number]


def owner_groups(accounts: Sequence[MarginAccount]) -> list[list[int]]:
    """The numbers of the accounts, grouped by owner (see above); each group ascending, groups by their first."""
    joined: dict[tuple[Address, int], tuple[Address, int]] = {}

    def root(at: tuple[Address, int]) -> tuple[Address, int]:
        while joined.setdefault(at, at) != at:
            joined[at] = at = joined[joined[at]]
        return at

    places = [[(owner_of(each.account_id), chain) for chain in each.chains] for each in accounts]
    for chains in places:
        for chain in chains:
            joined[root(chain)] = root(chains[0])
    groups: dict[tuple[Address, int], list[int]] = {}
    for number, chains in enumerate(places):
        groups.setdefault(root(chains[0]), []).append(number)
    return list(groups.values())


def positive(amounts: Mapping[str, int]) -> dict[str, int]:
    """Without zeros."""
    return {name: amount for name, amount in amounts.items() if amount > 0}
