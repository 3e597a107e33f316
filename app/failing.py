"""How a server process ends for what a person can mend: one line that says how, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util.exc import CommandError
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.errors import AppError

_STATUSES = {404: 4, 409: 6}
"""The command's statuses for what an API would have answered; its table is in ``stillhouse --help``."""


class CannotStart(Exception):
    """Why a process cannot start: a sentence that names the remedy."""


@contextmanager
def mendable() -> Iterator[None]:
    """Turn what a person can mend into one line on stderr and an exit status: the command's for what it stands for."""
    try:
        yield
    except AppError as error:
        _say(str(error), status=_STATUSES.get(error.status, 1))
    except (CannotStart, OSError) as error:
        _say(str(error))
    except ValidationError as error:
        found = error.errors()[0]
        where = f"STILLHOUSE_{'_'.join(map(str, found['loc'])).upper()}: " if found["loc"] else ""
        _say(f"{where}{found['msg'].removeprefix('Value error, ')}")
    except DBAPIError as error:
        _say(f"the database says: {error.orig}; check STILLHOUSE_DATABASE_URL")
    except (SQLAlchemyError, CommandError, ModuleNotFoundError) as error:
        _say(f"STILLHOUSE_DATABASE_URL cannot be used: {error}")


def _say(sentence: str, *, status: int = 1) -> None:
    print(f"stillhouse: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(status)
