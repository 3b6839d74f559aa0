"""How long each stage takes, from a chain's head to a posted batch and a mined liquidation."""

from __future__ import annotations

from collections import deque

from keeper.attest.messages import Stages

_WINDOW = 1_000


class Latencies:
    """The newest durations of every stage, in seconds, with their quantiles."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[float]] = {}

    def add(self, stage: str, seconds: float) -> None:
        self._samples.setdefault(stage, deque(maxlen=_WINDOW)).append(seconds)

    def record(self, stages: Stages, posted: float) -> None:
        """A batch that was mined at `posted`; stages its proposer did not report are left out."""
        previous = stages.head
        for name in ("observed", "evaluated", "signed"):
            reached = getattr(stages, name)
            if reached:
                self.add(f"{name}", max(0.0, reached - previous))
                previous = reached
        self.add("posted", max(0.0, posted - previous))
        if stages.head:
            self.add("head_to_posted", max(0.0, posted - stages.head))

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Per stage: count, p50 and p99 (nearest rank)."""
        return {
            stage: {"count": len(values), "p50": _rank(values, 0.5), "p99": _rank(values, 0.99)}
            for stage, values in self._samples.items()
        }


def _rank(values: deque[float], quantile: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(quantile * len(ordered)))], 4)
