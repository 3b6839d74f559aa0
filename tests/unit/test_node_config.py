"""The liquidator's configuration: what the example file says is what the schema has."""

from __future__ import annotations

from pathlib import Path

import pytest

from keeper.node.config import ConfigError, NodeConfig
from keeper.state.batch import UNIT

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node.toml"


def liquidating(tmp_path: Path, *changes: tuple[str, str]) -> NodeConfig:
    """The example with its commented section `[liquidate]` in force, and some text replaced."""
    above, section = EXAMPLE.read_text().split("# [liquidate]", 1)
    text = above + "\n".join(line.removeprefix("# ") for line in ("# [liquidate]" + section).splitlines())
    text = text.replace('roles = ["attest", "serve"]', 'roles = ["attest", "liquidate", "serve"]')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "node.toml"
    path.write_text(text)
    return NodeConfig.load(path)


def test_the_example_names_every_key_of_a_liquidator_with_its_default(tmp_path: Path) -> None:
    config = liquidating(tmp_path)
    section = config.liquidate
    assert section is not None
    named = {*type(section).model_fields} - {"key"}
    text = EXAMPLE.read_text().split("# [liquidate]", 1)[1]
    assert {name for name in named if f"# {name} = " in text} == named
    defaults = {name: type(section).model_fields[name].get_default(call_default_factory=True) for name in named}
    assert {name: getattr(section, name) for name in named} == defaults | {"keep": {"WETH": 0.0}}
    assert config.chain(31_337_001).native_usd == config.chain(1).native_usd == 3_000.0


def test_a_rule_and_terms_of_sale_are_scaled_from_the_file(tmp_path: Path) -> None:
    config = liquidating(
        tmp_path,
        ("min_profit_usd = 1.0", "min_profit_usd = 2.5"),
        ("float_usd = 0.0", "float_usd = 100.1"),
        ("WETH = 0.0", "WETH = 1.25"),
    )
    assert config.liquidate is not None
    rule, terms = config.liquidate.rule, config.liquidate.sale_terms
    assert (rule.min_profit, rule.patience, rule.hedge, rule.capital) == (5 * UNIT // 2, 2.0, 5, 2)
    assert (terms.slippage, terms.discount, terms.float) == (30, 200, 1_001 * UNIT // 10)
    assert terms.keep == {"WETH": 5 * UNIT // 4}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("min_profit_usd = 1.0", "min_profit_usd = -1.0", "liquidate.min_profit_usd"),
        ("slippage_bps = 30", "slippage_bps = 10000", "liquidate.slippage_bps"),
        ("hedge_bps = 5", "hedge_bp = 5", "liquidate.hedge_bp"),
    ],
)
def test_what_would_bid_at_a_loss_or_is_unknown_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        liquidating(tmp_path, (old, new))
