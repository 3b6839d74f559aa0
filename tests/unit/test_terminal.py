"""What commands show is whole in a terminal of 80 columns, which is also what pipes and logs get."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from keeper.cli import app

WIDTH = 80
COMMANDS = (
    ["margin", "explain", "examples/margin_book.json"],
    ["margin", "evaluate", "examples/margin_book.json"],
    ["margin", "whatif", "examples/margin_book.json", "--trade", "ETH-PERP:1"],
    ["margin", "models"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_nothing_is_cut_or_wraps(command: list[str]) -> None:
    found = CliRunner().invoke(app, command, env={"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"})
    assert found.exit_code == 0, found.output
    assert "…" not in found.output
    assert max(map(len, found.output.splitlines())) <= WIDTH


def test_a_heat_map_has_every_figure_and_its_unit() -> None:
    shown = CliRunner().invoke(app, COMMANDS[0], env={"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}).output
    assert "profit and loss, USD" in shown
    rows = [line for line in shown.splitlines() if line.lstrip().startswith(("+", "−", "-")) and "%" in line]
    assert len(rows) >= 9
