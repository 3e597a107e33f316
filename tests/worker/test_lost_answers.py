"""A commit whose answer is lost: the worker writes again, and the job's log and events hold everything once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db import Database
from app.lifecycle.lease import Lease
from app.storage import LocalStorage, Stored
from app.tables import Checkpoint, Event, Job, LogChunk, MetricPoint
from tests.app.running import claimed
from tests.worker.test_parts import database, settings  # noqa: F401  # fixtures
from worker import patience
from worker.reporter import Reporter

NO_ANSWER = OperationalError("COMMIT", {}, Exception("the connection is gone"))


class Unreliable(Database):
    """Of the next transactions says that it does not answer; some have arrived all the same."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.arrives: list[bool] = []
        """Of each of them, in order, whether it does."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        arrived = self.arrives.pop(0) if self.arrives else None
        with super().transaction() as session:
            yield session
            if arrived is False:
                raise NO_ANSWER
        if arrived:
            raise NO_ANSWER


@pytest.fixture
def unreliable(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreliable]:  # noqa: F811
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0)
    opened = Unreliable(database.engine.url.render_as_string(hide_password=False))
    yield opened
    opened.dispose()


@pytest.fixture
def lease(database: Database) -> Lease:  # noqa: F811
    return claimed(database)


@pytest.fixture
def reporter(unreliable: Unreliable, lease: Lease) -> Reporter:
    return Reporter(unreliable, lease, log_limit_bytes=1000, lost=lambda: False)


def told(database: Database) -> tuple[list[str], str]:  # noqa: F811
    """What the job's events and log say of this attempt, once it has begun."""
    with database.reading() as session:
        events = list(session.scalars(select(Event).order_by(Event.seq)))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert session.get_one(Job, "job_1").last_seq == len(events)
        log = "".join(session.scalars(select(LogChunk.text).order_by(LogChunk.offset)))
        assert session.get_one(Job, "job_1").log_bytes == len(log.encode())
    return [event.type for event in events[2:]], log


Report = Callable[[Reporter], None]
EVERY_WAY: dict[str, tuple[Report, list[str], str]] = {
    "output": (lambda reporter: reporter.output("hello "), [], "hello "),
    "events": (lambda reporter: reporter.often("job.epoch_finished", {"epoch": 1}), ["job.epoch_finished"], ""),
    "warning": (lambda reporter: reporter.event("job.warning", {"message": "x"}), ["job.warning"], ""),
    "start": (lambda reporter: reporter.started(7, None), ["job.child_started"], ""),
    "stage": (lambda reporter: reporter.stage("training"), ["job.stage_changed"], ""),
    "metrics": (lambda reporter: reporter.metrics([("loss", 1, 0.0, 0.5)]), [], ""),
}


@pytest.mark.parametrize("arrives", [[True], [False], [True, True], [False, True], [False, False, True]], ids=str)
@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_is_written_again_is_there_once(
    database: Database,  # noqa: F811
    unreliable: Unreliable,
    reporter: Reporter,
    arrives: list[bool],
    way: str,
) -> None:
    report, events, log = EVERY_WAY[way]
    unreliable.arrives = list(arrives)
    report(reporter)
    reporter.flush(force=True)
    assert not unreliable.arrives
    assert told(database) == (events, log)
    report(reporter)
    reporter.flush(force=True)
    again = [] if way == "stage" else events  # it has not changed
    assert told(database) == (events + again, log * 2)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_checkpoint_with_all_that_waited_for_it(
    database: Database,  # noqa: F811
    unreliable: Unreliable,
    reporter: Reporter,
    tmp_path: Path,
    *,
    arrives: bool,
) -> None:
    stored: list[Stored] = []
    for number in range(3):
        stored.append(LocalStorage(tmp_path).put(f"jobs/job_1/{number}.pt", io.BytesIO(b"%d" % number)))
        reporter.output("hello ")
        reporter.often("job.progress", {"fraction": number / 2})
        unreliable.arrives = [arrives]
        data = {"phase": "teacher", "complete": False, "epoch": number, "step": 0}
        stale = reporter.checkpoint(stored[-1], data)
    assert stale == [stored[0].key]
    assert told(database) == (["job.progress", "job.checkpoint_saved"] * 3, "hello " * 3)
    with database.reading() as session:
        assert set(session.scalars(select(Checkpoint.key))) == {each.key for each in stored[1:]}
        assert session.scalars(select(MetricPoint)).all() == []
