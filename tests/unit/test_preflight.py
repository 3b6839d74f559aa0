"""What a configuration asks for and cannot have is refused before anything is begun: all of it at once, by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from typer.testing import CliRunner
from worlds import A, B, C, make_deployment

from keeper.cli import app
from keeper.cli.output import Failure
from keeper.devnet.chains import account
from keeper.margin.parameter_file import default_parameters
from keeper.node.config import ConfigError, KeySource, NodeConfig
from keeper.node.preflight import Findings, ask, inspect
from keeper.state.deployment import Deployment

MEMBERS = [account(index) for index in range(4)]
OTHER = account(10)
_OTHERS_KEY = f'private_key = "{OTHER.key.hex()}"'
_PASSWORD = "correct horse"
BASE = make_deployment()
DEPLOYMENT = replace(
    BASE,
    attestors=tuple(sorted(member.address for member in MEMBERS)),
    threshold=3,
    parameters_hash=default_parameters().hash(),
    chains={c: replace(each, rpc=f"http://127.0.0.1:{9000 + n}") for n, (c, each) in enumerate(BASE.chains.items())},
)
PEERS = {"0x" + member.address.hex(): f"http://127.0.0.1:{8600 + n}" for n, member in enumerate(MEMBERS)}


def written(
    folder: Path,
    *lines: str,
    key: bytes | None = None,
    peers: dict[str, str] | None = None,
    profile: str = "devnet",
    roles: tuple[str, ...] = (),
) -> Path:
    """A node's file, complete and right but for what is given."""
    named = PEERS if peers is None else peers
    roles = (*roles, *(["attest"] if key is not None else []))
    text = [f'profile = "{profile}"', 'deployment = "deployment.json"', 'state_dir = "state"']
    text += [f"roles = {json.dumps([*roles, 'serve'])}", "[peers]"]
    text += [f'"{peer}" = "{url}"' for peer, url in named.items()]
    text += [] if key is None else ["[attest.key]", f'private_key = "0x{key.hex()}"']
    (folder / "node.toml").write_text("\n".join((*text, *lines)) + "\n")
    (folder / "deployment.json").write_text(json.dumps(complete(DEPLOYMENT).to_json()))
    return folder / "node.toml"


def complete(deployment: Deployment) -> Deployment:
    chains = deployment.chains.items()
    return replace(
        deployment, chains={c: replace(each, code_hashes=dict.fromkeys(each.parts(), bytes(32))) for c, each in chains}
    )


def found(path: Path) -> Findings:
    return inspect(NodeConfig.load(path), DEPLOYMENT)


def check(path: Path, *more: str) -> str:
    """What `keeper run --check` says where it is content; its Failure is raised."""
    result = CliRunner().invoke(app, ["run", "--config", str(path), *more], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_what_is_right_is_not_complained_of(tmp_path: Path) -> None:
    assert found(written(tmp_path)) == Findings()
    assert found(written(tmp_path, key=MEMBERS[0].key)) == Findings()
    text = check(written(tmp_path), "--check")
    assert text.strip().endswith(f"keeper, roles serve, chains {A}, {B}, {C}")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["[chains.1]", 'rpc = "http://127.0.0.1:1"'], f"[chains.1]: Cross Margin has no such chain but {A}, {B}, {C}"),
        ([f"[chains.{A}]", 'rpc = "127.0.0.1:1"'], f"[chains.{A}] rpc: "),
        ([f"[chains.{A}]", 'rpc = ""'], f"[chains.{A}] rpc: a provider without a host: wanted a URL"),
        ([f"[chains.{A}]", 'rpc = "ws://127.0.0.1:1"'], f"[chains.{A}] rpc: 127.0.0.1:1: wanted a URL"),
        ([f"[chains.{A}]", 'rpc = "http://:1"'], f"[chains.{A}] rpc: "),
        ([f"[chains.{A}]", 'rpc = "http://h:99999"'], f"[chains.{A}] rpc: a provider with a malformed URL"),
        ([f"[chains.{A}]", 'rpc = "http://127.0.0.1:9001/"'], f"is the provider of chain {A} already"),
        (["[relay]", 'iris = "iris"', "[relay.key]", _OTHERS_KEY], "[relay] iris: "),
        (
            ["[liquidate]", "keep = { WEHT = 1.0 }", "[liquidate.key]", _OTHERS_KEY],
            "[liquidate] keep: no collateral token is called 'WEHT', there are WETH",
        ),
    ],
)
def test_what_names_nothing_that_is_there_is_refused(tmp_path: Path, lines: list[str], says: str) -> None:
    roles = tuple(role for role in ("relay", "liquidate") if f"[{role}]" in lines)
    faults = found(written(tmp_path, *lines, roles=roles)).faults
    assert len(faults) == 1
    assert says in faults[0]


def test_peers_are_attestors_each_with_a_url_of_its_own(tmp_path: Path) -> None:
    first, *others = PEERS
    stranger = "0x" + OTHER.address.hex()
    assert (
        f"{stranger} is none of the attestors"
        in found(written(tmp_path, peers={**PEERS, stranger: "http://127.0.0.1:1"})).faults[0]
    )
    same = found(written(tmp_path, peers={**PEERS, first: PEERS[others[0]] + "/"})).faults
    assert same == [f"[peers] {others[0]}: 127.0.0.1:8601 is the URL of {first} too"]
    (bad,) = found(written(tmp_path, peers={**PEERS, first: "127.0.0.1:8600"})).faults
    assert f"[peers] {first}: " in bad
    with pytest.raises(ConfigError, match="is named twice"):
        NodeConfig.load(written(tmp_path, peers={**PEERS, first.upper().replace("0X", "0x"): "http://127.0.0.1:1"}))
    with pytest.raises(ConfigError, match=r"\[peers\] '0x12': an address has 20 bytes, got 1"):
        NodeConfig.load(written(tmp_path, peers={**PEERS, "0x12": "http://127.0.0.1:1"}))


def test_too_few_peers_are_refused_and_one_that_lacks_is_warned_of(tmp_path: Path) -> None:
    listed = list(PEERS.items())
    for count, own in ((0, None), (2, None), (0, 3), (1, 3)):
        key = None if own is None else MEMBERS[own].key
        (fault,) = found(written(tmp_path, key=key, peers=dict(listed[:count]))).faults
        assert "fewer than the threshold of 3: add 0x" in fault
        assert listed[2][0] in fault
    for count, own in ((3, None), (2, 3), (3, 2)):
        key = None if own is None else MEMBERS[own].key
        seen = found(written(tmp_path, key=key, peers=dict(listed[:count])))
        assert not seen.faults
        (warning,) = seen.warnings
        assert warning.startswith("[peers] lacks 0x")
    assert "warning: [peers] lacks" in check(written(tmp_path, peers=dict(listed[:3])), "--check")


def test_keys_are_there_fit_their_role_and_serve_one(tmp_path: Path) -> None:
    (stranger,) = found(written(tmp_path, key=OTHER.key)).faults
    assert f"[attest.key] 0x{OTHER.address.hex()} is none of the attestors" in stranger
    relay = ["[relay.key]", f'private_key = "{MEMBERS[0].key.hex()}"']
    (twice,) = found(written(tmp_path, *relay, key=MEMBERS[0].key, roles=("relay",))).faults
    assert "[relay.key] is the key of [attest] too" in twice
    for bad in ("0x12", "zz" * 32, "00" * 32, "ff" * 32):
        (wrong,) = found(written(tmp_path, "[relay.key]", f'private_key = "{bad}"', roles=("relay",))).faults
        assert wrong.startswith("[relay.key] private_key: wanted 32 bytes in hex")
        assert bad not in wrong


def keystore(folder: Path, content: str | None = None, password: str | None = _PASSWORD) -> list[str]:
    encrypted = json.dumps(Account.encrypt(OTHER.key, _PASSWORD, kdf="pbkdf2", iterations=2))
    (folder / "relay.json").write_text(encrypted if content is None else content)
    (folder / "relay.password").unlink(missing_ok=True)
    if password is not None:
        (folder / "relay.password").write_text(password)
    return ["[relay.key]", 'keystore = "relay.json"', 'password_file = "relay.password"']


def test_a_keystore_is_read_and_every_way_in_which_it_fails_is_named(tmp_path: Path) -> None:
    for password in (_PASSWORD, _PASSWORD + "\n", _PASSWORD + "\r\n"):
        path = written(tmp_path, *keystore(tmp_path, password=password), profile="production", roles=("relay",))
        assert found(path) == Findings()
    for lines, says in (
        (lambda: keystore(tmp_path, password="wrong"), "is the password in .*relay.password this keystore's?"),
        (lambda: keystore(tmp_path, password=None), "password_file .*relay.password: not readable"),
        (lambda: keystore(tmp_path, content="{"), "keystore .*relay.json: not readable"),
        (lambda: keystore(tmp_path, content="{}"), "keystore .*relay.json: "),
        (lambda: keystore(tmp_path, content="[]"), "keystore .*relay.json: "),
        (lambda: keystore(tmp_path, content='{"version": 3, "crypto": 7}'), "keystore .*relay.json: "),
    ):
        path = written(tmp_path, *lines(), profile="production", roles=("relay",))
        with pytest.raises(Failure, match=says):
            check(path, "--check")
    shutil.move(tmp_path / "relay.json", tmp_path / "elsewhere.json")
    with pytest.raises(Failure, match=r"\[relay.key\] keystore .*relay.json: not readable"):
        check(path, "--check")


def test_a_key_is_decrypted_once(tmp_path: Path) -> None:
    keystore(tmp_path)
    source = KeySource(keystore=tmp_path / "relay.json", password_file=tmp_path / "relay.password")
    assert source.load() == OTHER.key
    (tmp_path / "relay.json").unlink()
    assert source.load() == OTHER.key


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([f"[chains.{A}]", "timeout_seconds = inf"], f"chains.{A}.timeout_seconds"),
        ([f"[chains.{A}]", "timeout_seconds = nan"], f"chains.{A}.timeout_seconds"),
        ([f"[chains.{A}]", "timeout_seconds = 0"], f"chains.{A}.timeout_seconds"),
        ([f"[chains.{A}]", "finality = -1"], f"chains.{A}.finality"),
        ([f"[chains.{A}]", "native_usd = inf"], f"chains.{A}.native_usd"),
        (["[http]", "port = 70000"], "http.port"),
        (["[http]", "port = -1"], "http.port"),
        (["[liquidate]", "keep = { WETH = nan }"], "liquidate.keep"),
        (["[liquidate]", "keep = { WETH = -1 }"], "liquidate.keep"),
        (["[liquidate]", "patience_seconds = inf"], "liquidate.patience_seconds"),
        (["[relay]", "max_fee_gwei = inf"], "relay.max_fee_gwei"),
        (["[relay]", "max_fee = 5"], "relay.max_fee"),
        (["[relay]", "key = 5"], "relay.key"),
    ],
)
def test_numbers_out_of_range_and_unknown_keys_are_named(tmp_path: Path, lines: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        NodeConfig.load(written(tmp_path, *lines))


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "nowhere.toml", tmp_path / "bytes.toml"):
        with pytest.raises(Failure) as failure:
            check(path, "--check")
        assert "\n" not in str(failure.value)
        assert str(path) in str(failure.value)
    path = written(tmp_path)
    for content in (b"\xff", b"[]", b"{", b'{"name": 5}', b'{"chains": []}'):
        (tmp_path / "deployment.json").write_bytes(content)
        with pytest.raises(Failure, match=r"deployment\.json"):
            check(path, "--check")
    (tmp_path / "deployment.json").unlink()
    (tmp_path / "deployment.json").mkdir()
    with pytest.raises(Failure, match=r"deployment\.json: not readable"):
        check(path, "--check")


def test_a_state_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "state").write_text("a file")
    (fault,) = found(path).faults
    assert fault == f"state_dir {tmp_path / 'state'}: {tmp_path / 'state'} is no folder"


def test_parameters_of_another_deployment_are_refused(tmp_path: Path) -> None:
    other = replace(DEPLOYMENT, parameters_hash=bytes(32))
    (fault,) = inspect(NodeConfig.load(written(tmp_path)), other).faults
    assert f"margin parameters hash to 0x{default_parameters().hash().hex()}" in fault
    assert f"made for 0x{bytes(32).hex()}" in fault


def test_all_faults_are_listed_and_a_run_refuses_the_same(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "[chains.1]",
        "[relay.key]",
        'private_key = "0x12"',
        key=OTHER.key,
        peers=dict(list(PEERS.items())[:1]),
        roles=("relay",),
    )
    with pytest.raises(Failure) as checked:
        check(path, "--check")
    with pytest.raises(Failure) as run:
        check(path)
    assert str(run.value) == str(checked.value)
    lines = str(checked.value).splitlines()[1:]
    assert [line.split("]")[0] for line in lines] == ["- [chains.1", "- [attest.key", "- [relay.key", "- [peers"]
    assert not (tmp_path / "state").exists()
    with pytest.raises(Failure, match="--online goes with --check"):
        check(path, "--online")


def test_several_faults_of_roles_are_listed_together(tmp_path: Path) -> None:
    path = written(
        tmp_path, "[relay.key]", f'private_key = "{OTHER.key.hex()}"', profile="production", roles=("liquidate",)
    )
    with pytest.raises(ConfigError) as error:
        NodeConfig.load(path)
    for said in ("section [relay] wants 'relay'", "wants a section [liquidate]", "devnet profile only"):
        assert said in str(error.value)


@pytest.mark.asyncio
async def test_asked_online_what_does_not_answer_is_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path, *(line for c in (A, B, C) for line in (f"[chains.{c}]", 'rpc = "http://127.0.0.1:1"')))
    asked = await ask(NodeConfig.load(path), DEPLOYMENT)
    assert not asked.faults
    assert [warning.split(" is not reachable")[0] for warning in asked.warnings] == [
        *(f"chain {chain_id}" for chain_id in (A, B, C)),
        *(f"peer {peer}" for peer in PEERS),
    ]
