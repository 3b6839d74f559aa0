"""uv as this machine's pip is configured: `python scripts/uv.py pip install ...`.

uv reads no configuration of pip's, so where packages come from, by which proxy and certificates, is passed on in its
environment. What the environment says to uv already stays.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SECTIONS = ("global", "install", ":env:")
"""Of pip's configuration; the later one counts."""
MEANING = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "no-index": ("UV_NO_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
}
"""What uv calls them. Values with several entries are divided by spaces for pip."""
LISTS = {"UV_FIND_LINKS": ",", "UV_INDEX": " ", "UV_INSECURE_HOST": " "}


def passed_on(listing: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv, from what `pip config list` prints; none that `environment` has."""
    settings: dict[str, str] = {}
    for section in SECTIONS:
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                settings[key.removeprefix(f"{section}.")] = ast.literal_eval(value)
    found = {
        variable: LISTS.get(variable, " ").join(settings[name].split())
        for name, variables in MEANING.items()
        if name in settings
        for variable in variables
        if variable not in environment
    }
    if "UV_INDEX" in found and "UV_INDEX_STRATEGY" not in environment:
        # As pip looks: all indexes are asked. Hashes say which file is meant, whoever offers it.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def main() -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listing = subprocess.run(pip, stdout=subprocess.PIPE, text=True, check=True).stdout
    uv = Path(sys.executable).parent / "uv"
    os.execve(uv, [str(uv), *sys.argv[1:]], {**os.environ, **passed_on(listing, os.environ)})


if __name__ == "__main__":
    main()
