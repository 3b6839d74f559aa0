"""What the client takes for an amount, a name, a node and a signer, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attestors import PANEL
from eth_account import Account
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from worlds import A

from keeper.client import (
    AsyncClient,
    BadArgument,
    ClientError,
    LocalSigner,
    NoSigner,
    read_keystore,
)
from keeper.client._amounts import exact
from keeper.client._signers import signer_of
from keeper.state.actions import Withdraw
from keeper.state.ids import Address, account_id

KEY = keccak(text="an owner")
OWNER = LocalSigner(KEY)
ME = account_id(OWNER.address)
OTHER = Address(b"\x0e" * 20)
NODE = "http://127.0.0.1:9"
NOW = 1_800_000_000
LEAVING = Withdraw(ME, PANEL.chains[A].settlement.address, 5_000_000, OWNER.address)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def client_of(url: str, **options: Any) -> AsyncClient:
    return AsyncClient.from_deployment(PANEL, url, **{"signer": KEY, "timeout": 5.0, **options})


@given(st.integers(1, 2**128 - 1), st.integers(0, 18))
def test_every_amount_is_exact_in_each_of_its_spellings(units: int, decimals: int) -> None:
    whole, fraction = divmod(units, 10**decimals)
    text = f"{whole}.{fraction:0{decimals}d}" if decimals else str(whole)
    assert exact(units, decimals, "amount", "USDC") == units
    assert exact(text, decimals, "amount", "USDC") == units
    assert exact(Decimal(text), decimals, "amount", "USDC") == units
    assert exact("-" + text, decimals, "size", "units", signed=True) == -units


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.1, "an integer of the smallest unit, or a decimal string"),
        (True, "an integer of the smallest unit"),
        (None, "an integer of the smallest unit"),
        ("", "a number"),
        ("1_000", "a number"),
        ("0x10", "a number"),
        ("nan", "a number"),
        (Decimal("NaN"), "a finite number"),
        (Decimal("1e-7"), "at most 6 decimals"),
        ("1.0000001", "at most 6 decimals"),
        ("0", "above zero"),
        (-1, "above zero"),
        ("-1", "above zero"),
        (2**128, "less than"),
        ("1e999999", "a number"),
        ("1" * 400, "a number"),
    ],
)
def test_amounts_that_are_refused(value: Any, wanted: str) -> None:
    with pytest.raises(BadArgument, match=wanted) as refused:
        exact(value, 6, "amount", "USDC")
    problem = refused.value.problem
    assert (problem.field, problem.unit) == ("amount", "USDC")
    assert len(str(refused.value)) < 400


def test_names_are_read_or_refused_with_what_there_is() -> None:
    async def work() -> None:
        async with client_of(NODE) as client:
            assert (await client.chain("A")).chain_id == (await client.chain(A)).chain_id == A
            assert (await client.chain(str(A))).chain_id == A
            usdc = await client.token("A", "USDC")
            assert await client.token("A", usdc.address) == usdc
            assert await client.token("A", "0x" + usdc.address.hex().upper()) == usdc
            assert client.account_id() == client.account_id(ME) == client.account_id("0x" + OWNER.address.hex()) == ME
            assert client.account_id(3) == client.account_id(f"0x{OWNER.address.hex()}/3")
            assert await client.time("A", NOW) == NOW
            with pytest.raises(BadArgument, match=r"one of A \(\d+\), B"):
                await client.chain("Z")
            with pytest.raises(BadArgument, match=r"USDC.*by symbol or address"):
                await client.token("A", "DOGE")
            for account in (-1, 2**96, "0x12", b"12", None, "someone"):
                with pytest.raises(BadArgument, match="account"):
                    client.account_id(account)  # type: ignore[arg-type]
            for asset in ("ETH", "0x12", b"12"):
                with pytest.raises(BadArgument, match="instrument"):
                    await client.mark_proof(asset, chain="A")
            for when in (0, -5, True, 2**64, 1.5):
                with pytest.raises(BadArgument, match="unix seconds, or seconds from the chain's head"):
                    await client.time("A", when)  # type: ignore[arg-type]
            with pytest.raises(BadArgument, match="cash_part: at most the amount"):
                await client.draft.reserve("A", OTHER, "1", until=NOW, cash_part="2")

    run(work())


@pytest.mark.parametrize("url", ["127.0.0.1:8600", "ftp://node", ""])
def test_a_node_is_named_by_its_url(url: str) -> None:
    with pytest.raises(BadArgument, match="node_url: http://HOST:PORT"):
        AsyncClient(url)


class Device:
    """A signer of somebody else's, which signs with `key` and says that it is `address`."""

    def __init__(self, address: Any, key: bytes) -> None:
        self.address = address
        self._signer = LocalSigner(key)

    def sign(self, digest: bytes) -> bytes:
        return self._signer.sign(digest)


def test_signers_of_every_form_sign_alike() -> None:
    digest = keccak(b"anything")
    shown = Account.from_key(KEY).address
    forms: list[Any] = [
        KEY,
        KEY.hex(),
        "0x" + KEY.hex(),
        Account.from_key(KEY),
        OWNER,
        Device(shown, KEY),
        Device(OWNER.address, KEY),
    ]
    for form in forms:
        signer = signer_of(form)
        assert signer.address == OWNER.address
        assert signer.sign(digest) == OWNER.sign(digest)


def test_a_signer_that_signs_as_somebody_else_is_found_out() -> None:
    signer = signer_of(Device(OTHER, KEY))
    with pytest.raises(ClientError, match=f"signed as 0x{OWNER.address.hex()}"):
        signer.sign(keccak(b"anything"))


@pytest.mark.parametrize("form", ["", "secret-words", KEY[:31], "0x" + KEY.hex() + "00", bytes(32), object(), 7])
def test_what_does_not_sign_is_refused_and_not_repeated(form: Any) -> None:
    with pytest.raises(BadArgument) as refused:
        signer_of(form)
    assert KEY.hex()[:20] not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_key_store_is_read_with_its_password(tmp_path: Path) -> None:
    path = tmp_path / "owner.json"
    path.write_text(json.dumps(Account.encrypt(KEY, "open", kdf="pbkdf2", iterations=2)))
    assert read_keystore(path, "open").address == OWNER.address
    with pytest.raises(BadArgument, match="version 3 and its password"):
        read_keystore(path, "wrong")
    with pytest.raises(BadArgument, match="a readable file"):
        read_keystore(tmp_path / "none.json", "open")
    path.write_text("[]")
    with pytest.raises(BadArgument, match="version 3"):
        read_keystore(path, "open")


def test_a_client_without_a_signer_says_so_when_it_is_to_act() -> None:
    async def work() -> None:
        async with client_of(NODE, signer=None) as client:
            for act in (client.permit("A", LEAVING, deadline=NOW), client.withdraw("A", "USDC", "1")):
                with pytest.raises(NoSigner, match="only reads: give it a signer"):
                    await act

    run(work())
