"""What this machine knows of a Weights & Biases account, found without importing wandb."""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_URL = "https://api.wandb.ai"


def settle(mode: str) -> tuple[str, str]:
    """What to do for `mode`, and in a few words why not what might be expected.

    `auto` is online where there is a key, else offline; the environment variable WANDB_MODE takes
    its place. `online` needs a key as well, since nobody may be there to be asked for one.

    Returns:
        `online`, `offline` or `disabled`; and the reason, empty where none is needed.
    """
    reason = ""
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE", "").strip().lower()
        mode = {"disabled": "disabled", "offline": "offline", "dryrun": "offline"}.get(asked, "online")
        reason = f"WANDB_MODE={asked}" if mode == "offline" else ""
    if mode == "online" and not has_key():
        return "offline", f"no key for {urlsplit(base_url()).netloc} ('wandb login' saves one)"
    return mode, reason


def base_url() -> str:
    """The server's address: of the environment, of wandb's settings files, or the public one."""
    return (os.environ.get("WANDB_BASE_URL") or _setting("base_url") or DEFAULT_URL).rstrip("/")


def has_key() -> bool:
    """Whether there is a key for the server, where wandb itself would look for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or _setting("api_key"):
        return True
    named = os.environ.get("NETRC")
    places = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    for place in places:
        try:
            found = netrc.netrc(str(place.expanduser())).authenticators(urlsplit(base_url()).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        return bool(found and found[2])
    return False


def _setting(key: str) -> str:
    """A value of wandb's settings files, the working directory's before the user's."""
    home = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    for path in (Path("wandb/settings"), home / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        if value := parser.get("default", key, fallback=""):
            return value
    return ""
