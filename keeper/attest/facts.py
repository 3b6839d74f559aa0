"""What the checks of an act look at, and what a check is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keeper.margin.listing import Listing
from keeper.state.deployment import Deployment
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.world import ChainState


@dataclass(frozen=True, slots=True)
class Facts:
    """What an act is checked against: `state` is its chain at the head, `marks` what a traded instrument may be marked
    at when it is executed, USD 1e18: in the last batch and by one's own inputs."""

    deployment: Deployment
    listing: Listing
    state: ChainState
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One refusal: `code` is the attestors' name of it, `errors` the contracts'. `acts` are the kinds it is for."""

    code: str
    errors: tuple[str, ...]
    acts: tuple[type, ...]
    judge: Callable[[PermitItem, Any, Facts], Problem | None]
