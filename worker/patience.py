"""Writing while the database is away for a moment: a restart of it must not cost an attempt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from app.db import unavailable
from app.lifecycle.lease import LeaseLost

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
_PAUSE_SECONDS = 0.5


def insist(write: Callable[[], Value], *, lost: Callable[[], bool]) -> Value:
    """What ``write`` returns, tried again while the database does not answer. Raises LeaseLost once ``lost`` says so.

    ``write`` is one fenced transaction that may be made twice: its commit may have arrived although the answer did not.
    """
    while True:
        try:
            return write()
        except DBAPIError as error:
            if not (isinstance(error, OperationalError | InterfaceError) or unavailable(error)):
                raise
            if lost():
                raise LeaseLost(str(error)) from error
            logger.warning("the database does not answer, trying again: %s", error)
            time.sleep(_PAUSE_SECONDS)
