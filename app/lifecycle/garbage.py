"""Files that nothing needs any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from app.errors import StorageError
from app.storage import Storage

logger = logging.getLogger(__name__)


def discard(storage: Storage, *prefixes: str) -> None:
    """Delete what lies below ``prefixes``, whose rows are gone. What cannot be deleted now is found by the sweep."""
    for prefix in prefixes:
        try:
            storage.delete_prefix(prefix)
        except (StorageError, OSError) as error:
            logger.warning("the files below %s will be deleted later: %s", prefix, error)


def drop(storage: Storage, keys: Sequence[str]) -> None:
    """The same for single files."""
    if keys:
        try:
            storage.delete(*keys)
        except (StorageError, OSError) as error:
            logger.warning("%d files will be deleted later: %s", len(keys), error)
