"""The main job as a story of eight steps, each checked on chain by a reader that shares no code with the nodes."""

from .run import tell

__all__ = ["tell"]
