"""A fetching child, from its start to its last word."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from app.config import Settings
from worker import staging


def fetched(settings: Settings, wanted: staging.Fetched, scratch: Path) -> list[dict[str, Any]]:
    """What the child says, once it has ended; nothing when all went well."""
    scratch.mkdir(exist_ok=True)
    child = staging.start_fetching(settings, wanted, scratch)
    try:
        with os.fdopen(os.dup(child.events)) as events:
            return [json.loads(line) for line in events]
    finally:
        child.close()
