"""The devnet's constants: keys everyone knows, chain ids nobody uses."""

from __future__ import annotations

import pytest

from keeper.devnet.chains import (
    ATTESTORS,
    CHAINS,
    DEPLOYER,
    DOMAINS,
    POOL,
    SETTLEMENT,
    START_PRICES,
    START_VOLS,
    THRESHOLD,
    TOKENS,
    account,
    attestor_addresses,
    chain_named,
    start_answers,
)


def test_accounts_are_those_of_the_well_known_mnemonic() -> None:
    # Printed by anvil on every start, and by every tool that knows the mnemonic.
    assert account(DEPLOYER).address.hex() == "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert account(DEPLOYER).key.hex() == "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    assert account(1).address.hex() == "70997970c51812dc3a010c7d01b50e0d17dc79c8"


def test_attestors_are_ascending_and_their_threshold_meets_any_two_quorums() -> None:
    attestors = attestor_addresses()
    assert list(attestors) == sorted({account(index).address for index in ATTESTORS})
    assert len(attestors) + 1 < 2 * THRESHOLD  # CM-13 with one faulty attestor: t > (n + f) / 2


def test_every_token_and_the_settlement_token_have_a_price() -> None:
    assert SETTLEMENT in START_PRICES
    assert {token["underlying"] for token in TOKENS.values() if "underlying" in token} <= set(START_PRICES)


def test_every_underlying_has_a_perpetual_and_a_vol() -> None:
    names = set(START_PRICES) - {SETTLEMENT}
    answers = start_answers()
    assert set(START_VOLS) == names
    assert set(answers) == set(START_PRICES) | {f"{name}-PERP" for name in names} | {f"{name}-VOL" for name in names}
    assert all(answers[f"{name}-PERP"] == answers[name] for name in names)


def test_the_pool_trades_a_collateral_token_and_every_chain_has_a_domain() -> None:
    assert "underlying" in TOKENS[str(POOL["token"])]
    assert len({DOMAINS[chain.chain_id] for chain in CHAINS}) == len(CHAINS)


def test_chains_are_found_by_letter_and_by_id() -> None:
    for chain in CHAINS:
        assert chain_named(chain.name.lower()) is chain
        assert chain_named(str(chain.chain_id)) is chain
    with pytest.raises(LookupError, match=r"no chain 'D' in the devnet: A \(31337001\), B"):
        chain_named("D")
