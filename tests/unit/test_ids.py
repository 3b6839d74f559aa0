"""Account and asset ids: against the vectors, and as properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from codec_vectors import entries, raw, refused
from hypothesis import given
from hypothesis import strategies as st

from keeper.state.ids import (
    FEES,
    FUND,
    ZERO32,
    ZERO_ADDRESS,
    AccountId,
    AssetId,
    IdError,
    Instrument,
    Kind,
    account_id,
    address,
    instrument_id,
    is_token,
    owner_of,
    parse_account_id,
    parse_instrument,
    parse_token,
    perpetual,
    sub_account_of,
    token_id,
    transfer_id,
    transfer_target,
)

UNDERLYINGS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
EXPIRIES = st.integers(1, 2**40 - 1)
STRIKES = st.integers(1, 2**128 - 1)
INSTRUMENTS = st.one_of(
    st.builds(Instrument, st.just(Kind.PERPETUAL), UNDERLYINGS),
    st.builds(Instrument, st.just(Kind.FUTURE), UNDERLYINGS, EXPIRIES),
    st.builds(Instrument, st.sampled_from([Kind.CALL, Kind.PUT]), UNDERLYINGS, EXPIRIES, STRIKES),
)


def _instrument(entry: dict[str, Any]) -> Instrument:
    return Instrument(Kind[entry["kind"].upper()], entry["underlying"], entry["expiry"], int(entry["strike"]))


@entries("accounts")
def test_account_id(entry: dict[str, Any]) -> None:
    account = account_id(entry["owner"], int(entry["subAccount"]))
    assert account == raw(entry["id"])
    assert owner_of(account) == raw(entry["owner"])
    assert sub_account_of(account) == int(entry["subAccount"])


def test_the_fund_and_the_fees_are_sub_accounts_of_nobody() -> None:
    assert account_id(ZERO_ADDRESS, 1) == FUND
    assert account_id(ZERO_ADDRESS, 2) == FEES


@entries("instruments")
def test_instrument_id(entry: dict[str, Any]) -> None:
    asset = instrument_id(_instrument(entry))
    assert asset == raw(entry["id"])
    assert parse_instrument(asset) == _instrument(entry)
    assert not is_token(asset)


@entries("tokens")
def test_token_id(entry: dict[str, Any]) -> None:
    asset = token_id(int(entry["chainId"]), entry["address"])
    assert asset == raw(entry["id"])
    assert parse_token(asset) == (int(entry["chainId"]), raw(entry["address"]))


@refused("accounts", "instruments", "tokens")
def test_id_RefusedWhen_malformed(section: str, entry: dict[str, Any]) -> None:
    make: Callable[[dict[str, Any]], bytes] = {
        "accounts": lambda e: account_id(e["owner"], int(e["subAccount"])),
        "instruments": lambda e: instrument_id(_instrument(e)),
        "tokens": lambda e: token_id(int(e["chainId"]), e["address"]),
    }[section]
    with pytest.raises(IdError):
        make(entry)


@given(st.binary(min_size=20, max_size=20), st.integers(0, 2**96 - 1))
def test_account_ids_are_read_as_they_are_written(owner: bytes, sub: int) -> None:
    account = account_id(owner, sub)
    assert (owner_of(account), sub_account_of(account)) == (owner, sub)
    assert parse_account_id(account) == account
    assert parse_account_id("0x" + account.hex()) == account
    assert parse_account_id(f"{owner.hex().upper()}/{sub}") == account


@given(INSTRUMENTS, INSTRUMENTS)
def test_an_instrument_has_one_id_and_an_id_one_instrument(one: Instrument, other: Instrument) -> None:
    assert parse_instrument(instrument_id(one)) == one
    assert (instrument_id(one) == instrument_id(other)) == (one == other)
    assert not is_token(instrument_id(one))


@given(
    st.binary(min_size=32, max_size=32)
    | st.builds(bytes.__add__, st.just(b"\1ETH"), st.binary(min_size=28, max_size=28))
)
def test_bytes_are_an_instrument_only_where_it_encodes_to_them(data: bytes) -> None:
    try:
        instrument = parse_instrument(AssetId(data))
    except IdError:
        return
    assert instrument_id(instrument) == data


@given(st.integers(1, 2**64 - 1), st.binary(min_size=20, max_size=20))
def test_a_token_is_another_asset_on_every_chain(chain_id: int, token: bytes) -> None:
    asset = token_id(chain_id, token)
    assert is_token(asset)
    assert parse_token(asset) == (chain_id, token)
    assert token_id(chain_id % (2**64 - 1) + 1, token) != asset
    with pytest.raises(IdError):
        parse_instrument(asset)


@pytest.mark.parametrize(
    "data",
    [
        bytes(31),
        bytes(32),
        b"\5" + perpetual("ETH")[1:],
        b"\0" + perpetual("ETH")[1:],
        perpetual("ETH")[:31] + b"\1",
        perpetual("ETH")[:30],
        b"\1E\0TH" + bytes(27),
        b"\1" + "ÉTH".encode() + bytes(27),
        b"\1ETH" + bytes(9) + b"\1" + bytes(18),
        b"\1ETH" + bytes(25) + b"\1" + bytes(2),
    ],
)
def test_parse_instrument_RefusedWhen_malformed(data: bytes) -> None:
    with pytest.raises(IdError):
        parse_instrument(AssetId(data))


def test_no_asset_is_no_token() -> None:
    assert not is_token(AssetId(ZERO32))
    with pytest.raises(IdError, match="no token"):
        parse_token(AssetId(ZERO32))
    with pytest.raises(IdError, match="no token"):
        parse_token(perpetual("ETH"))


@pytest.mark.parametrize("text", ["", "0x", "0x12", "zz" * 20, "0x" + "11" * 31, "0x" + "11" * 20 + "/x", "é" * 40])
def test_parse_account_id_RefusedWhen_malformed(text: str) -> None:
    with pytest.raises(IdError):
        parse_account_id(text)
    with pytest.raises(IdError):
        parse_account_id(AccountId(bytes(31)))


def test_addresses_are_read_in_any_case() -> None:
    text = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    assert address(text) == address(text.lower()) == address(text[2:].upper()) == address(address(text))
    with pytest.raises(IdError, match="20 bytes, got 19"):
        address(bytes(19))


def test_an_instrument_is_no_token_and_says_so() -> None:
    with pytest.raises(IdError, match="token_id"):
        instrument_id(Instrument(Kind.TOKEN, "ETH"))


@given(st.integers(1, 2**64 - 1))
def test_shipments_name_their_chain_and_accounts_never_do(chain_id: int) -> None:
    shipment = transfer_id(chain_id)
    assert transfer_target(shipment) == chain_id
    assert owner_of(shipment) == ZERO_ADDRESS
    assert sub_account_of(shipment) == 2**64 + chain_id
    for other in (FUND, FEES, account_id(ZERO_ADDRESS, chain_id), account_id(ZERO_ADDRESS, 2**64)):
        assert transfer_target(other) is None
    assert transfer_target(account_id(b"\1" * 20, 2**64 + chain_id)) is None
    assert transfer_target(account_id(ZERO_ADDRESS, 2**65 + chain_id)) is None


@pytest.mark.parametrize("chain_id", [0, -1, 2**64])
def test_a_shipment_to_no_chain_is_refused(chain_id: int) -> None:
    with pytest.raises(IdError, match=r"a chain id is 1"):
        transfer_id(chain_id)
