"""Three local chains to try, test and show the whole thing on."""

from .launch import FOLDER, ChainStatus, Devnet, deployments_file, down
from .processes import DevnetError

__all__ = ["FOLDER", "ChainStatus", "Devnet", "DevnetError", "deployments_file", "down"]
