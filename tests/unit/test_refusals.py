"""Whoever meets a refusal finds its code in the manual, and the manual has no code that nobody says."""

import ast
import re
from pathlib import Path

from keeper.node.peers import NO_QUORUM

ROOT = Path(__file__).parents[2]
SAYING = {"Check", "Failed", "LegFault", "Problem", "Refused", "RequestError"}
FOLDERS = ("attest", "node", "clearing")


def said() -> set[str]:
    """The first argument of everything that refuses, where it stands there as text; and codes that are chosen."""
    found: set[str] = set()
    for folder in FOLDERS:
        for path in sorted((ROOT / "keeper" / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in SAYING and node.args:
                    found |= _codes(node.args[0])
                elif isinstance(node, ast.Assign) and "code" in ast.unparse(node.targets[0]).split(", ")[0]:
                    found |= _codes(node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value)
    return {code for code in found if re.fullmatch(r"[a-z_]+", code)} | {NO_QUORUM}


def _codes(node: ast.expr) -> set[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.IfExp):
        return _codes(node.body) | _codes(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_every_code_is_in_the_manual_and_no_other() -> None:
    manual = (ROOT / "docs/refusals.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", manual, re.M))
    between = set(re.findall(r"`([a-z_]+)`", manual.partition("## Between attestors")[2]))
    assert said() == listed | between


def test_every_remedy_is_said() -> None:
    """A code whose meaning is its remedy has an empty cell; there are few."""
    rows = re.findall(r"^\| `[a-z_]+` \|([^|]+)\|([^|]*)\|$", (ROOT / "docs/refusals.md").read_text(), re.M)
    assert all(cause.strip() for cause, _ in rows)
    assert sum(not remedy.strip() for _, remedy in rows) <= 7
