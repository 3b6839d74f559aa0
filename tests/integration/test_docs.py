"""Every command and every line of code in the guides works, in the order in which a reader meets it.

A guide's code blocks become one shell session on a running devnet: `bash` as it stands, `python` and `js` given to
their interpreters, and a block under `<!-- file: NAME -->` written to that file. A block under `<!-- shown -->` is for
reading only. The session's folder has what a checkout has, so that the paths of the guides are true in it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from keeper.devnet.cluster import Cluster

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
GUIDES = ("owning", "integrating", "following")
SECONDS = 400
_BLOCK = re.compile(r"(?:^<!-- (?P<note>[^>]*) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
_RUN = {"bash", "python", "js"}


@dataclass(frozen=True)
class Block:
    """`note` is what stands in the comment above it."""

    line: int
    kind: str
    code: str
    note: str

    @property
    def shell(self) -> str:
        """What the session does for it; empty where it is shown only."""
        if self.note.startswith("file: "):
            run = f"cat > {self.note.removeprefix('file: ')} << 'END_OF_BLOCK'\n{self.code}END_OF_BLOCK"
        elif self.note == "shown" or self.kind not in _RUN:
            return ""
        elif self.kind == "bash":
            run = self.code
        else:
            interpreter = {"python": ".venv/bin/python -", "js": "node --input-type=module -"}[self.kind]
            run = f"{interpreter} << 'END_OF_BLOCK'\n{self.code}END_OF_BLOCK"
        return f'echo "--- line {self.line}"\n{run}\n'


def blocks(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, m.start("kind")) + 1, m["kind"], m["code"], m["note"] or "")
        for m in _BLOCK.finditer(text)
    ]


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_leads_to_its_end(guide: str, cluster: Cluster, tmp_path: Path) -> None:
    found = blocks((ROOT / "docs" / f"{guide}.md").read_text())
    assert sum(bool(block.shell) for block in found) >= 3, "a guide whose code nobody runs"
    for entry in (".venv", ".toolchain", "node_modules", "contracts", "examples", "docs", "foundry.toml", "keeper"):
        (tmp_path / entry).symlink_to(ROOT / entry)
    (tmp_path / ".devnet").symlink_to(cluster.folder)
    # What a guide leaves running in the background ends with its session.
    script = "set -euo pipefail\ntrap 'jobs -p | xargs -r kill' EXIT\n" + "".join(block.shell for block in found)
    session = subprocess.Popen(
        ["bash", "-s"],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = session.communicate(script, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(session.pid, signal.SIGKILL)
        told, _ = session.communicate()
    assert session.returncode == 0, f"docs/{guide}.md, after the last line named here:\n{told[-4000:]}"
