"""A node's configuration: one schema for the TOML file and the environment (`KEEPER_…`), unknown keys refused."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from eth_account import Account
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from keeper.clearing.bidding import Rule
from keeper.state.ids import Address, IdError, address

Role = Literal["attest", "relay", "liquidate", "serve"]


class ConfigError(ValueError):
    """A configuration that cannot be used; one line per fault, each naming the key and the remedy."""

    @classmethod
    def of(cls, subject: str, faults: Sequence[str]) -> ConfigError:
        return cls(f"{subject}: " + (faults[0] if len(faults) == 1 else "".join(f"\n- {fault}" for fault in faults)))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class KeySource(_Section):
    """Where a key comes from: a keystore with a password file, or, in the devnet profile only, in the clear."""

    keystore: Path | None = None
    password_file: Path | None = None
    private_key: SecretStr | None = None
    _key: bytes | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_source(self) -> KeySource:
        if (self.keystore is None) == (self.private_key is None):
            raise ValueError("give either keystore (with password_file) or private_key")
        if self.keystore is not None and self.password_file is None:
            raise ValueError("a keystore wants password_file")
        return self

    def load(self) -> bytes:
        """The 32-byte key, decrypted once. Raises ConfigError for an unreadable file or a wrong password."""
        if self._key is None:
            self._key = self._load()
        return self._key

    def _load(self) -> bytes:
        if self.private_key is not None:
            return _private_key(self.private_key.get_secret_value())
        assert self.keystore is not None
        assert self.password_file is not None
        try:
            password = self.password_file.read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise ConfigError(f"password_file {self.password_file}: not readable: {error}") from None
        try:
            encrypted = json.loads(self.keystore.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"keystore {self.keystore}: not readable: {error}") from None
        try:
            return bytes(Account.decrypt(encrypted, password))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"keystore {self.keystore}: {error}: is the password in {self.password_file} this keystore's?"
            ) from None


def _private_key(text: str) -> bytes:
    """Checked without a word of it in the message."""
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
        Account.from_key(key)
    except ValueError:
        raise ConfigError("private_key: wanted 32 bytes in hex, of a key of secp256k1") from None
    return key


class ChainSection(_Section):
    """`rpc` overrides the deployments file. Finality is `finalized`, `safe`, or a number of blocks.

    `native_usd` is what the chain's own coin costs, for a liquidator's gas.
    """

    rpc: str | None = None
    finality: Literal["finalized", "safe"] | Annotated[int, Field(ge=0)] = "finalized"
    timeout_seconds: float = Field(default=2.0, gt=0)
    native_usd: float = Field(default=3_000.0, ge=0)


class AttestSection(_Section):
    key: KeySource


class RelaySection(_Section):
    """`iris` is the base URL of the service that attests shipments, Circle's or the devnet's."""

    key: KeySource
    iris: str = "https://iris-api.circle.com"
    max_fee_gwei: float = Field(default=500.0, gt=0)


@dataclass(frozen=True, slots=True)
class SaleTerms:
    """Basis points: how much less than quoted a sale accepts, and how far below the mark a quote may be. `float` in
    USD 1e18 stays in the wallet, `keep` whole tokens (1e18) of a symbol in the account."""

    slippage: int = 30
    discount: int = 200
    float: int = 0
    keep: Mapping[str, int] = field(default_factory=dict)


class LiquidateSection(_Section):
    """How a liquidator bids (`keeper.clearing.bidding`) and what it does with the tokens it took.

    `min_profit_usd` is what a take-over must leave after gas and hedge, `patience_seconds` the mean time in which
    others are expected to take a leg. A sale accepts `slippage_bps` less than quoted, and no quote more than
    `pool_discount_bps` below the mark. `float_usd` of the settlement token stay in the wallet, `keep` whole tokens of
    a symbol in the account.
    """

    key: KeySource
    max_fee_gwei: float = Field(default=500.0, gt=0)
    min_profit_usd: float = Field(default=1.0, ge=0)
    patience_seconds: float = Field(default=2.0, ge=0)
    hedge_bps: int = Field(default=5, ge=0)
    capital_bps: int = Field(default=2, ge=0)
    slippage_bps: int = Field(default=30, ge=0, lt=10_000)
    pool_discount_bps: int = Field(default=200, ge=0, lt=10_000)
    float_usd: float = Field(default=0.0, ge=0)
    keep: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    sub_account: int = Field(default=0, ge=0)

    @property
    def rule(self) -> Rule:
        return Rule(_scaled(self.min_profit_usd), self.patience_seconds, self.hedge_bps, self.capital_bps)

    @property
    def sale_terms(self) -> SaleTerms:
        keep = {symbol: _scaled(amount) for symbol, amount in self.keep.items()}
        return SaleTerms(self.slippage_bps, self.pool_discount_bps, _scaled(self.float_usd), keep)


def _scaled(amount: float) -> int:
    """USD or whole tokens to 1e18, exact to 1e-6."""
    return round(amount * 10**6) * 10**12


class HttpSection(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8600, ge=0, le=65535)


class NodeConfig(BaseSettings):
    """One node. Peers maps every other attestor's address to the base URL of its HTTP interface.

    `parameters` is the deployment's file of margin parameters; without it those shipped for xpm.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="KEEPER_", env_nested_delimiter="__", allow_inf_nan=False
    )

    name: str = "keeper"
    profile: Literal["devnet", "production"] = "production"
    deployment: Path
    state_dir: Path
    parameters: Path | None = None
    roles: frozenset[Role] = frozenset({"serve"})
    late_after_seconds: int = Field(default=10, gt=0)
    feed_max_age_seconds: int = Field(default=86_400, gt=0)
    chains: dict[int, ChainSection] = Field(default_factory=dict)
    peers: dict[str, str] = Field(default_factory=dict)
    http: HttpSection = HttpSection()
    attest: AttestSection | None = None
    relay: RelaySection | None = None
    liquidate: LiquidateSection | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment goes before the file: a secret or a port is changed without touching it.
        return (env_settings, init_settings)

    @model_validator(mode="after")
    def _consistent(self) -> NodeConfig:
        faults = []
        for role, section in self.sections().items():
            if role not in self.roles:
                faults.append(f"section [{role}] wants {role!r} among the roles")
            if self.profile == "production" and section.key.private_key is not None:
                faults.append(f"[{role}] private_key is for the devnet profile only: use a keystore")
        faults += [
            f"role {role!r} wants a section [{role}]"
            for role in sorted(self.roles - {"serve"} - self.sections().keys())
        ]
        named = set()
        for peer in self.peers:
            try:
                where = address(peer)
            except IdError as error:
                faults.append(f"[peers] {peer[:80]!r}: {error}")
                continue
            if where in named:
                faults.append(f"[peers] 0x{where.hex()} is named twice")
            named.add(where)
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def sections(self) -> dict[Role, AttestSection | RelaySection | LiquidateSection]:
        """What is said of each role that has a key."""
        found: dict[Role, AttestSection | RelaySection | LiquidateSection | None] = {
            "attest": self.attest,
            "relay": self.relay,
            "liquidate": self.liquidate,
        }
        return {role: section for role, section in found.items() if section is not None}

    def chain(self, chain_id: int) -> ChainSection:
        return self.chains.get(chain_id, ChainSection())

    def peer_urls(self) -> dict[Address, str]:
        return {address(peer): url.rstrip("/") for peer, url in self.peers.items()}

    @classmethod
    def load(cls, path: Path) -> NodeConfig:
        """Read a TOML file; relative paths in it are relative to the file.

        Raises:
            ConfigError: missing file, malformed TOML, unknown or missing keys, values out of range.
        """
        try:
            data = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise ConfigError(f"no configuration file at {path}") from None
        except OSError as error:
            raise ConfigError(f"{path}: not readable: {error.strerror}") from None
        except ValueError as error:  # of TOML, or of UTF-8
            raise ConfigError(f"{path}: {error}") from None
        base = path.resolve().parent
        keys = (_table(_table(data, role), "key") for role in ("attest", "relay", "liquidate"))
        for section in (data, *keys):
            for key in ("deployment", "state_dir", "parameters", "keystore", "password_file"):
                if isinstance(section.get(key), str):
                    section[key] = base / section[key]
        try:
            return cls(**data)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
            raise ConfigError.of(f"{path}", faults) from None


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    """A table in a table; an empty one where there is none, or something else, which is then refused by its name."""
    found = data.get(name)
    return found if isinstance(found, dict) else {}
