"""The tally of how attempts ended, written in the transaction that ends them: it only grows, as a counter must."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.tables import Kind, Outcome


def tally(session: Session, kind: Kind, reason: str) -> None:
    """One more attempt that ended so."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(Outcome).values(kind=kind, reason=reason, attempts=1)
    more = {"attempts": Outcome.attempts + 1}
    session.execute(insert.on_conflict_do_update(index_elements=["kind", "reason"], set_=more))
