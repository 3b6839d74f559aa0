"""Netting figures: by hand on linear books, deltas, thousands of accounts, and as a person reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from immutables import Map
from option_books import EXPIRIES, LAWFUL, MARKS, SPOT, future, option
from rich.console import Console
from worlds import BTC, ETH, LISTING, MAKER, MODEL, OTHER, OWNER, STRANGER, A, B, C, Chains, marks, units, usd

from keeper.api.netting import Sample, answer_of
from keeper.clearing.netting import Netted, NettingFigures, Payments, Requirements, netting_figures
from keeper.cli.netting import render, sparkline
from keeper.margin.deltas import deltas
from keeper.market.marks import Curve, Marks
from keeper.market.surface import AtmSkew
from keeper.state.batch import UNIT
from keeper.state.ids import FUND, AccountId, Kind, account_id, perpetual, token_id
from keeper.state.world import MarginAccount

PER_ETH = 534
"""Initial margin of one ETH at 3,000: 15 % of scenarios and 2.8 % of the notional."""


def figures(chains: Chains) -> NettingFigures:
    return netting_figures(chains.world, LISTING, marks(), MODEL)


def exact(amount: float) -> int:
    """USD as an exposure is summed."""
    return usd(amount) * UNIT


# --- exposure and margin, by hand ------------------------------------------------------------------------------------


def test_five_long_on_one_chain_and_five_short_on_another_are_nothing() -> None:
    """Gross 10 ETH, 30,000 USD; net nothing. Alone either wants 2,670, together nothing."""
    found = figures(Chains().size(OWNER, A, 5).size(OWNER, B, -5).linked(OWNER, (A, B)))
    eth = found.underlyings["ETH"]
    assert eth.accounts == Netted(exact(30_000), 0)
    assert (eth.usd(eth.accounts.gross), eth.units(eth.accounts.gross)) == (usd(30_000), units(10))
    assert eth.chains == {A: Netted(exact(15_000), exact(15_000)), B: Netted(exact(15_000), exact(15_000))}
    assert (eth.siloed, eth.overall) == (exact(30_000), 0)
    assert eth.accounts.efficiency == found.exposure.efficiency == 1
    assert found.chains == {**eth.chains, C: Netted()}
    assert found.margin == Requirements(isolated=usd(5_340), siloed=usd(5_340), portfolio=0)
    assert found.margin.netted.efficiency == 1
    assert found.margin.capital_efficiency is None
    assert found.chain_margin == {A: usd(2_670), B: usd(2_670), C: 0}


def test_what_is_not_linked_is_not_netted() -> None:
    found = figures(Chains().size(OWNER, A, 5).size(OWNER, B, -5))
    assert found.underlyings["ETH"].accounts == Netted(exact(30_000), exact(30_000))
    assert found.underlyings["ETH"].overall == 0
    assert found.margin == Requirements(usd(5_340), usd(5_340), usd(5_340))
    assert found.margin.capital_efficiency == 1


def test_a_part_is_netted_and_two_accounts_add() -> None:
    """OWNER: 5 − 2 = 3 ETH. OTHER: 1 ETH short, 0.5 BTC long on one chain. Overall 2 ETH of 8."""
    chains = Chains().size(OWNER, A, 5).size(OWNER, B, -2).linked(OWNER, (A, B))
    found = figures(chains.size(OTHER, B, -1).size(OTHER, B, 0.5, BTC))
    eth, btc = found.underlyings["ETH"], found.underlyings["BTC"]
    assert list(found.underlyings) == ["BTC", "ETH"]
    assert (eth.units(eth.accounts.gross), eth.units(eth.accounts.net)) == (units(8), units(4))
    assert eth.units(eth.overall) == units(2)
    assert eth.chains[B] == Netted(exact(9_000), exact(9_000))
    assert btc.accounts == Netted(exact(30_000), exact(30_000))
    assert found.exposure == Netted(exact(54_000), exact(42_000))
    assert found.exposure.efficiency == pytest.approx(12 / 54)
    assert found.chains[B] == Netted(exact(39_000), exact(39_000))
    own = found.accounts[MarginAccount(OWNER, (A, B))]
    assert own == Requirements(usd(7 * PER_ETH), usd(7 * PER_ETH), usd(3 * PER_ETH))
    assert own.capital_efficiency == pytest.approx(7 / 3)
    assert own.saved == usd(4 * PER_ETH)
    # Apart 450 and 4,500; together BTC −15 % with ETH −15 %, 4,050, or −7.5 % with +7.5 %, 2,475: ½ (4,950 + 4,050).
    other = found.accounts[MarginAccount(OTHER, (B,))]
    assert other.isolated == usd(PER_ETH + 0.178 * 30_000)
    assert other.siloed == other.portfolio == usd(4_500 + 0.028 * 33_000)
    assert found.margin == own + other


def test_collateral_is_margin_and_no_exposure() -> None:
    """2 WETH cover 2 ETH short: alone they lose 15 %, together only the perpetual's 2.8 % stay."""
    found = figures(Chains().size(OWNER, A, -2).weth(OWNER, B, 2).linked(OWNER, (A, B)))
    assert found.exposure == Netted(exact(6_000), exact(6_000))
    assert found.margin.isolated == usd(2 * PER_ETH + 900)
    assert found.margin.portfolio == usd(0.028 * 6_000)


def test_reservations_are_no_part_of_what_netting_saves() -> None:
    chains = Chains().size(OWNER, A, 5).reserved(OWNER, A, 400, 2**40)
    assert figures(chains).margin == Requirements(usd(2_670), usd(2_670), usd(2_670))


def test_what_the_fund_alone_holds_costs_nobody_margin() -> None:
    """Found by a crash on the devnet: the fund had taken somebody's WETH, and the keeper stopped over its figures."""
    chains = Chains().size(OWNER, A, 5).weth(FUND, B, 2)
    assert figures(chains).margin == Requirements(usd(2_670), usd(2_670), usd(2_670))


def test_the_funds_positions_are_exposure_and_require_no_margin() -> None:
    chains = Chains().size(OWNER, A, 5).size(FUND, A, -5)
    found = figures(chains)
    assert found.exposure == Netted(exact(30_000), exact(30_000))
    assert found.underlyings["ETH"].overall == 0
    assert found.margin.portfolio == usd(2_670)
    assert list(found.accounts) == [MarginAccount(OWNER, (A,))]


def test_of_nothing_there_is_no_efficiency() -> None:
    found = figures(Chains())
    assert found.exposure == Netted()
    assert found.payments == Payments()
    for ratio in (found.exposure.efficiency, found.margin.netted.efficiency, found.margin.capital_efficiency):
        assert ratio is None
    assert found.payments.value.efficiency is None


def test_payments_by_hand() -> None:
    """CM-50: 40, 40 and 30 between accounts' own balances are 30 from A to C; three transfers are one."""
    chains = Chains().cash(OWNER, A, 100).cash(OWNER, B, -40).cash(OTHER, A, -40).cash(OTHER, B, 100)
    chains.cash(MAKER, A, 100).cash(MAKER, C, -30).cash(STRANGER, A, 9)
    for account in (OWNER, OTHER, MAKER, STRANGER):
        chains.linked(account, (A, B, C))
    payments = figures(chains).payments
    assert payments.value == Netted(usd(110), usd(30))
    assert payments.transfers == Netted(3, 1)
    assert payments.value.efficiency == pytest.approx(80 / 110)
    assert payments.transfers.efficiency == pytest.approx(2 / 3)


def test_the_example_of_the_document() -> None:
    """docs/netting.md."""
    ann, ben, cid = OWNER, OTHER, MAKER
    chains = Chains()
    for account in (ann, ben, cid):
        chains.linked(account, (A, B))
    for account, chain_id, size in ((ann, A, 5), (ann, B, -5), (ben, A, -5), (ben, B, 2), (cid, B, 3)):
        chains.size(account, chain_id, size)
    for account, on_a, on_b in ((ann, 1_000, -400), (ben, -400, 1_000), (cid, 800, -300)):
        chains.cash(account, A, on_a).cash(account, B, on_b)
    found = figures(chains)
    eth = found.underlyings["ETH"]
    assert eth.accounts == Netted(exact(60_000), exact(18_000))
    assert eth.chains == {A: Netted(exact(30_000), exact(30_000)), B: Netted(exact(30_000), exact(30_000))}
    assert (eth.accounts.efficiency, eth.overall) == (0.7, 0)
    assert found.margin == Requirements(usd(10_680), usd(10_680), usd(3_204))
    assert found.margin.capital_efficiency == pytest.approx(3.33, abs=0.005)
    assert found.margin.netted.efficiency == 0.7
    assert found.payments == Payments(Netted(usd(1_100), usd(300)), Netted(3, 1))
    assert found.payments.value.efficiency == pytest.approx(0.727, abs=0.0005)


# --- deltas ----------------------------------------------------------------------------------------------------------


def test_deltas_of_dated_instruments() -> None:
    """A future moves by its forward; a call less a put at one strike by a discounted forward."""
    call, put = (option("ETH", kind, 2, 1.0) for kind in (Kind.CALL, Kind.PUT))
    dated = future("ETH", 2)
    found = deltas(MARKS, LAWFUL, [call, put, dated, perpetual("ETH"), token_id(A, b"\xe7" * 20)])
    expiry = MARKS.curves["ETH"].expiries[EXPIRIES[2]]
    assert found[perpetual("ETH")] == found[token_id(A, b"\xe7" * 20)] == usd(3_000)
    assert found[dated] / UNIT == pytest.approx(expiry.forward, rel=1e-12)
    discount = 2.718281828459045 ** (-0.03 * 30 / 365)
    assert (found[call] - found[put]) / UNIT == pytest.approx(discount * expiry.forward, rel=1e-9)
    assert 0.5 < found[call] / UNIT / expiry.forward < 0.6


def test_a_small_move_of_the_forward_is_worth_the_delta() -> None:
    call = option("ETH", Kind.CALL, 2, 1.0)

    def at(move: float) -> Marks:
        expiry = replace(MARKS.curves["ETH"].expiries[EXPIRIES[2]], smile=AtmSkew(0.6, 0.0, 0.0))
        expiry = replace(expiry, forward=expiry.forward * (1 + move))
        return replace(MARKS, curves={"ETH": Curve({EXPIRIES[2]: expiry})})

    slope = (LAWFUL.price(call, at(1e-4)) - LAWFUL.price(call, at(-1e-4))) / UNIT / 2e-4
    assert deltas(at(0), LAWFUL, [call])[call] / UNIT == pytest.approx(slope, rel=1e-6)


def test_what_is_settled_moves_no_more() -> None:
    call, dated = option("ETH", Kind.CALL, 0, 0.9), future("ETH", 0)
    settled = replace(MARKS, settled={call: usd(300), dated: usd(3_000)})
    assert deltas(settled, LAWFUL, [call, dated, perpetual("ETH")]) == {
        call: 0,
        dated: 0,
        perpetual("ETH"): usd(SPOT["ETH"]),
    }


def test_thousands_of_accounts_are_one_pass() -> None:
    """More than one chunk of books; each of the same account is the same."""
    chains = Chains()
    many: list[AccountId] = [account_id(n.to_bytes(20, "big")) for n in range(1, 1_301)]
    for chain_id, size in ((A, 5), (B, -2)):
        sizes = Map({account: Map({ETH: units(size)}) for account in many})
        chains._change(chain_id, sizes=sizes, links=Map(dict.fromkeys(many, frozenset({A, B} - {chain_id}))))
    found = figures(chains)
    assert len(found.accounts) == 1_300
    assert set(found.accounts.values()) == {Requirements(usd(7 * PER_ETH), usd(7 * PER_ETH), usd(3 * PER_ETH))}
    assert found.margin.isolated == 1_300 * usd(7 * PER_ETH)
    assert found.underlyings["ETH"].accounts == Netted(exact(1_300 * 21_000), exact(1_300 * 9_000))


# --- as it is served and read ----------------------------------------------------------------------------------------


def _answer(accounts: int = 20) -> dict[str, Any]:
    chains = Chains().size(OWNER, A, 5).size(OWNER, B, -2).linked(OWNER, (A, B)).size(OTHER, B, -3)
    chains.cash(OWNER, A, 100).cash(OWNER, B, -40)
    sample = Sample(12, 1_800_000_000, {A: 100, B: 100, C: 100}, figures(chains))
    return answer_of(sample, {A: "A", B: "B", C: "C"}, accounts)


def test_the_answer_has_exact_amounts_and_ratios() -> None:
    answer = _answer()
    assert answer["exposure"] == {"gross": str(usd(30_000)), "net": str(usd(18_000)), "efficiency": 0.4}
    eth = answer["underlyings"]["ETH"]
    assert eth["gross"] == {"usd": str(usd(30_000)), "units": str(units(10))}
    assert eth["overall"] == {"usd": "0", "units": "0"}
    assert eth["chains"][str(B)]["net"] == {"usd": str(usd(15_000)), "units": str(units(5))}
    assert answer["chains"][str(A)] == {
        "name": "A",
        "exposure": {"gross": str(usd(15_000)), "net": str(usd(15_000)), "efficiency": 0.0},
        "initialMargin": str(usd(2_670)),
    }
    assert answer["payments"]["value"] == {"gross": str(usd(40)), "net": str(usd(40)), "efficiency": 0.0}
    assert answer["payments"]["transfers"] == {"gross": 1, "net": 1, "efficiency": 0.0}
    assert [each["accountId"] for each in answer["accounts"]] == ["0x" + OWNER.hex(), "0x" + OTHER.hex()]
    assert answer["accounts"][0]["capitalEfficiency"] == pytest.approx(7 / 3)
    assert [each["accountId"] for each in _answer(1)["accounts"]] == ["0x" + OWNER.hex()]
    assert answer["accountCount"] == 2


def test_tables_say_the_same() -> None:
    point = {"time": 0, "exposure": 0.4, "value": None, "transfers": 0.0, "margin": 1.0, "capitalEfficiency": 2.0}
    answer = _answer() | {"history": [{"epoch": 11, **point}, {"epoch": 12, **point, "value": 0.5}]}
    console = Console(width=120, record=True, force_terminal=False, file=_Nowhere())
    render(console, answer)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines[0] == "2 margin accounts at final blocks A 100, B 100, C 100, batch 12"
    assert "ETH 3,000.00 10.0000 30,000.00 6.0000 18,000.00 0.00 40.0%" in lines
    assert f"A ({A}) 15,000.00 15,000.00 0.0% 2,670.00" in lines
    assert "transfers between chains 1 1 0.0%" in lines
    assert "payments ▅ 50.0%" in lines
    assert "margin ██ 100.0%" in lines
    assert "exposure ▄▄ 40.0%" in lines
    assert any(line.startswith("efficiency over 2 batches, 11 to 12") for line in lines)


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def test_sparklines() -> None:
    assert sparkline([0.0, 0.124, 0.126, 0.5, None, 0.999, 1.0, 1.2, -0.1]) == "▁▁▂▅ ███▁"
