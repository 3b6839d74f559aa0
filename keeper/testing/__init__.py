"""What tests build on: attestors in one process on a real devnet. Nothing but tests imports it."""

from .panel import Panel

__all__ = ["Panel"]
