"""The example in every acting command's --help, run on a devnet as it stands there; and each as a dry run before."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account

from keeper.chain.rpc import Rpc
from keeper.cli import main
from keeper.client import Client, ClientError
from keeper.devnet.chains import account
from keeper.devnet.cluster import Cluster
from keeper.devnet.wallet import Wallet
from keeper.state.batch import UNIT

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(300)]

A = 31_337_001
COMMANDS = ("deposit", "link", "withdraw", "reserve", "release", "claim", "move", "trade", "unlink", "account")
"""In an order in which each finds what it needs."""
SIGNED = {"withdraw", "reserve", "move", "unlink"}


@dataclass
class Ran:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as the entry point does, in this process: forty processes would take minutes to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEEPER_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["keeper", *arguments])
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return Ran(int(code or 0), out, err)

    return run


def examples(keeper: Run, command: str) -> list[list[str]]:
    """The commands that a command's --help gives as examples."""
    shown = keeper(command, "--help")
    assert shown.returncode == 0, shown.stderr
    found = re.findall(r"Example: keeper (.+?)\s*$", shown.stdout, flags=re.MULTILINE)
    assert found, f"no example in keeper {command} --help"
    return [line.split() for line in found]


@pytest.fixture(scope="module")
def stage(devnet: Devnet, cluster: Cluster) -> list[str]:
    """As after a demo: the owner (7) and the maker (9) have deposits, the owner's wallet 1,000 USDC. What every command
    is told beside its example."""

    async def prepare() -> None:
        rpcs = {c: Rpc(chain.rpc, timeout=10.0) for c, chain in devnet.deployment.chains.items()}
        for index in (7, 9):
            wallet = Wallet(index, devnet.deployment, rpcs, cluster.keeper.url)
            await wallet.deposit(A, "USDC", 1_000 * 10**6)
            await wallet.mint(A, "USDC", 1_000 * 10**6)
            await wallet.aclose()
        for rpc in rpcs.values():
            await rpc.aclose()

    asyncio.run(prepare())
    for index in (7, 9):
        with Client(cluster.keeper.url, signer=account(index).key) as client:
            limit = time.monotonic() + 60
            while not _known(client):
                assert time.monotonic() < limit
                time.sleep(0.2)
    return ["--state", str(devnet.folder)]


def _known(client: Client) -> bool:
    try:
        return client.proof(chain="A").leaf.equity >= 1_000 * UNIT
    except ClientError:  # no batch has it yet
        return False


def test_every_example_does_what_it_says(keeper: Run, stage: list[str], tmp_path: Path) -> None:
    for command in COMMANDS:
        for example in examples(keeper, command):
            assert example[0] == command
            if command != "account":
                _dry_run(keeper, example, stage, tmp_path)
            done = keeper(*example, *stage, "--json")
            assert done.returncode == 0, (example, done.stderr)
            told = json.loads(done.stdout)
            if command == "account":
                assert told["owner"] == "0x14dc79964da2c08b23698b3d3cc7ca32193d9955"
            elif "order" in told:
                assert told["order"]["size"].startswith("-")
            else:
                assert told["act"] == command
                assert told["transactions"][-1]["hash"].startswith("0x")
                assert (told["permit"] is not None) == (command in {*SIGNED, "trade"})


def _dry_run(keeper: Run, example: list[str], stage: list[str], folder: Path) -> None:
    """What would be signed and sent, in JSON and in words; no file is written."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    shown = keeper(*example, *stage, "--dry-run", "--json")
    assert shown.returncode == 0, (example, shown.stderr)
    told: dict[str, Any] = json.loads(shown.stdout)
    kinds = [typed["primaryType"] for typed in told["typedData"]]
    assert kinds == (["Order"] if example[0] == "trade" else ["PermitRequest"] if example[0] in SIGNED else [])
    assert bool(told["transactions"]) == ("--sell" not in example)
    for call in told["transactions"]:
        assert call["data"].startswith("0x")
        assert call["chainId"] == A or example[0] == "link"
    worded = keeper(*example, *stage, "--dry-run")
    assert worded.returncode == 0
    assert "would be" in worded.stdout + worded.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_account_is_shown_with_what_is_reserved_and_what_is_live(keeper: Run, stage: list[str]) -> None:
    integrator = "0x" + account(8).address.hex()
    made = keeper("reserve", "A", integrator, "10", "--devnet-key", "7", *stage)
    assert made.returncode == 0, made.stderr
    assert re.search(r"permitted by [34] attestors until \d+, nonce \d+", made.stdout)
    shown = ""
    for _ in range(100):
        shown = keeper("account", "0x" + account(7).address.hex(), *stage).stdout
        if f"reserved for {integrator}" in shown:
            break
        time.sleep(0.2)
    assert re.search(rf"reserved for {integrator}: [\d.]+ USD, cash part [\d.]+, until 20\d\d-\d\d-\d\d", shown)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["withdraw", "A", "USDC", "0.1"], "nobody to sign: give --key-file FILE, set KEEPER_KEY"),
        (["withdraw", "Z", "USDC", "1", "--devnet-key", "7"], "chain: one of A"),
        (["withdraw", "A", "DOGE", "1", "--devnet-key", "7"], "token: a token of chain A"),
        (["withdraw", "A", "USDC", "1.0000001", "--devnet-key", "7"], "amount: at most 6 decimals wanted (USDC)"),
        (["withdraw", "A", "USDC", "1", "--devnet-key", "700"], "--devnet-key: 0 to"),
        (["withdraw", "A", "USDC", "1", "--key-file", "absent"], "--key-file absent"),
        (["withdraw", "A", "USDC", "999999", "--devnet-key", "7"], "insufficient"),
        (["withdraw", "A", "USDC", "1", "--devnet-key", "7", "--deadline", "100000"], "deadline"),
        (["withdraw", "A", "USDC", "1", "--devnet-key", "7", "--deployment", "absent.json"], "a deployments file"),
        (["claim", "A", "0x" + "5a" * 20, "1", "--devnet-key", "8"], "ClaimExceeds"),
        (["trade", "--devnet-key", "7"], "give CHAIN INSTRUMENT SIZE"),
        (["trade", "--with", "absent.json", "--devnet-key", "7"], "--with absent.json"),
        (["trade", "A", "ETH", "1", "--devnet-key", "7"], "instrument: a name like ETH-PERP"),
    ],
)
def test_a_failure_is_one_line_that_says_what_to_do(
    keeper: Run, stage: list[str], arguments: list[str], said: str
) -> None:
    failed = keeper(*arguments, *stage)
    assert failed.returncode == 1, failed.stdout
    assert said in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_keys_come_from_a_file_a_store_or_the_environment(
    keeper: Run, stage: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = account(7).key
    (tmp_path / "key").write_text("0x" + key.hex() + "\n")
    (tmp_path / "store.json").write_text(json.dumps(Account.encrypt(key, "open", kdf="pbkdf2", iterations=2)))
    (tmp_path / "password").write_text("open\n")
    dry = ["withdraw", "A", "USDC", "1", "--dry-run", "--json", *stage]
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--key-file", "key"], {}),
        (["--key-file", "store.json", "--password-file", "password"], {}),
        ([], {"KEEPER_KEY": key.hex()}),
    ]
    for options, env in ways:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        shown = keeper(*dry, *options)
        assert shown.returncode == 0, shown.stderr
        told = json.loads(shown.stdout)["typedData"][0]["message"]["accountId"]
        assert told == "0x" + account(7).address.hex() + "00" * 12
