"""The population appears: coin, deposits and links, all chains at once, hundreds of transactions in a few blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keeper.chain.abi import encode
from keeper.chain.rpc import Rpc
from keeper.devnet.chains import START_PRICES, account
from keeper.devnet.processes import DevnetError
from keeper.state.deployment import ChainDeployment, Deployment, Token
from keeper.state.ids import AccountId

from .lanes import Call, Lane, together
from .scenario import Deposit, Member

COIN = 10**19
"""Of the chain's native coin for every owner, wei."""
TREASURER = 58
"""Mints and deposits for everybody; anyone may deposit to any account."""
_MINT_GAS, _DEPOSIT_GAS, _LINK_GAS = 120_000, 250_000, 200_000


async def arrive(
    deployment: Deployment,
    rpcs: Mapping[int, Rpc],
    members: Sequence[Member],
    others: Iterable[tuple[AccountId, Deposit]],
) -> None:
    """Deposit for every member and link its chains; `others` are deposits without links.

    Raises:
        DevnetError: a transaction reverted.
    """
    deposits = [(member.account_id, deposit) for member in members for deposit in member.deposits]
    deposits += list(others)
    await together(
        work
        for chain_id, chain in deployment.chains.items()
        for work in (
            _deposits(chain, rpcs[chain_id], [entry for entry in deposits if entry[1].chain_id == chain_id]),
            _links(chain, rpcs[chain_id], members),
        )
    )


async def link(deployment: Deployment, rpcs: Mapping[int, Rpc], key_index: int) -> None:
    """Link one owner's cross account over all chains."""
    member = Member("", key_index, 0, tuple(deployment.chains), ())
    await together(_links(chain, rpcs[chain_id], [member]) for chain_id, chain in deployment.chains.items())


async def _deposits(chain: ChainDeployment, rpc: Rpc, deposits: Sequence[tuple[AccountId, Deposit]]) -> None:
    lane = Lane(rpc, chain.chain_id, account(TREASURER).key)
    tokens = {token.symbol: token for token in (chain.settlement, *chain.collateral)}
    amounts = [_amount(tokens[deposit.symbol], deposit.usd) for _, deposit in deposits]
    calls = []
    for symbol, token in tokens.items():
        total = sum(a for a, (_, deposit) in zip(amounts, deposits, strict=True) if deposit.symbol == symbol)
        mint = encode("DevnetToken", "mint", [account(TREASURER).address, total])
        calls.append(Call(token.address, mint, _MINT_GAS))
        approve = encode("DevnetToken", "approve", [chain.contracts.vault, total])
        calls.append(Call(token.address, approve, _MINT_GAS))
    for amount, (name, deposit) in zip(amounts, deposits, strict=True):
        data = encode("CollateralVault", "deposit", [name, tokens[deposit.symbol].address, amount, []])
        calls.append(Call(chain.contracts.vault, data, _DEPOSIT_GAS))
    _require(chain, "deposit", await lane.send(calls))


async def _links(chain: ChainDeployment, rpc: Rpc, members: Sequence[Member]) -> None:
    """Each owner links its own accounts: nobody else can."""
    by_owner: dict[int, list[Call]] = {}
    for member in members:
        others = [other for other in member.chains if other != chain.chain_id]
        if chain.chain_id in member.chains and others:
            data = encode("CollateralVault", "link", [member.account_id, others])
            by_owner.setdefault(member.owner, []).append(Call(chain.contracts.vault, data, _LINK_GAS))
    coin = [("anvil_setBalance", ["0x" + account(owner).address.hex(), hex(COIN)]) for owner in sorted(by_owner)]
    if coin:
        await rpc.batch(coin)
    await together(
        _linked(chain, Lane(rpc, chain.chain_id, account(owner).key), calls) for owner, calls in by_owner.items()
    )


async def _linked(chain: ChainDeployment, lane: Lane, calls: Sequence[Call]) -> None:
    _require(chain, "link", await lane.send(calls))


def _require(chain: ChainDeployment, what: str, receipts: Sequence[Mapping[str, str]]) -> None:
    failed = [receipt["transactionHash"] for receipt in receipts if int(receipt["status"], 16) != 1]
    if failed:
        raise DevnetError(f"chain {chain.name}: {len(failed)} of {len(receipts)} {what}s reverted, first {failed[0]}")


def _amount(token: Token, usd: int) -> int:
    """So much of a token as is worth `usd` at the start prices, token decimals, rounded down."""
    price = START_PRICES[token.underlying or token.symbol]
    return int(usd * 10 ** (8 + token.decimals) // price)
