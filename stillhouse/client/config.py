"""Where the server is and which key to show: what is given, else the environment, else this machine's ``serve``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import httpx

from stillhouse.client.errors import NotConfigured

CONNECT_ATTEMPTS = 5
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Endpoint:
    """A server and a key for it."""

    url: str
    key: str


def endpoint(url: str | None, key: str | None) -> Endpoint:
    """Raises NotConfigured when neither arguments, environment nor a local ``serve`` say."""
    data_dir = Path(os.environ.get("STILLHOUSE_DATA_DIR") or Path.home() / ".stillhouse").expanduser()
    found_url = url or os.environ.get("STILLHOUSE_URL") or _read(data_dir / "url")
    found_key = key or os.environ.get("STILLHOUSE_API_KEY") or _read(data_dir / "api-key")
    if not found_url:
        raise NotConfigured(
            f"no server is known: set STILLHOUSE_URL, or start one with stillhouse serve (none in {data_dir})"
        )
    if not found_key:
        raise NotConfigured("no key is known: set STILLHOUSE_API_KEY")
    try:
        usable = httpx.URL(found_url).scheme in ("http", "https") and found_key.isascii() and found_key.isprintable()
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise NotConfigured(f"{found_url!r} with that key cannot be asked: an http(s) URL and a key of sk_… are needed")
    return Endpoint(found_url, found_key)


def pause_before(attempt: int) -> float:
    """Seconds to wait before the given repetition: 0.2, 0.4, 0.8 … at most 5."""
    return float(min(0.2 * 2**attempt, 5.0))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
