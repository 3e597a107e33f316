"""A child is confined because it may be hostile: what it hands over is looked at before it is touched."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from app.lifecycle.lease import LeaseLost
from worker.handover import PHASE, Handover, Untrustworthy, point
from worker.patience import insist
from worker.watch import _event


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("sk_secret")
    folder = tmp_path / "outbox"
    folder.mkdir()
    return folder


def test_an_honest_file_is_read_and_removed(outbox: Path) -> None:
    (outbox / "teacher-000001-00000007-complete.pt").write_bytes(b"state")
    given = Handover(outbox)
    (name,) = given.names()
    with given.open(name) as file:
        assert file.read() == b"state"
    given.remove(name)
    assert given.names() == []
    given.remove(name)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", ".hidden", "a/b.pt", "a\x00.pt", "", "x" * 200 + ".pt"]
)
def test_a_name_that_leads_elsewhere_is_refused(outbox: Path, name: str) -> None:
    given = Handover(outbox)
    with pytest.raises(Untrustworthy), given.open(name):
        pass
    with pytest.raises(Untrustworthy):
        given.remove(name)
    assert (outbox.parent / "secret").exists()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "folder"])
def test_what_is_no_plain_file_is_refused(outbox: Path, kind: str) -> None:
    file = outbox / "x.pt"
    match kind:
        case "symlink":
            file.symlink_to(outbox.parent / "secret")
        case "hard link":
            file.hardlink_to(outbox.parent / "secret")
        case "fifo":
            os.mkfifo(file)
        case _:
            file.mkdir()
    with pytest.raises(Untrustworthy), Handover(outbox).open("x.pt"):
        pass


def test_a_folder_that_was_exchanged_for_a_link_is_refused(outbox: Path) -> None:
    outbox.rmdir()
    outbox.symlink_to(outbox.parent)
    with pytest.raises(Untrustworthy):
        Handover(outbox).names()


@pytest.mark.parametrize("phase", ["../../planted", "teacher/../x", "student", "student-0/x", "", "teacher-x"])
def test_only_a_jobs_own_phases_are_phases(phase: str) -> None:
    assert not PHASE.fullmatch(phase)
    assert PHASE.fullmatch("control-12")


def test_a_database_that_is_away_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.patience._PAUSE_SECONDS", 0.0)
    tries = io.StringIO()

    def write() -> str:
        tries.write("x")
        if len(tries.getvalue()) < 4:
            raise OperationalError("UPDATE", {}, Exception("restarting"))
        return "written"

    assert insist(write, lost=lambda: False) == "written"
    tries.truncate(0)
    tries.seek(0)
    with pytest.raises(LeaseLost):
        insist(write, lost=lambda: len(tries.getvalue()) >= 2)


def test_text_that_no_database_takes_is_mended_or_refused() -> None:
    assert _event(r'{"event": "warning", "message": "a\u0000b"}')["message"] == "a\N{REPLACEMENT CHARACTER}b"
    assert _event(r'{"event": "warning", "message": "\ud83d\ude00"}')["message"] == "\N{GRINNING FACE}"
    with pytest.raises(Untrustworthy, match="no JSON"):
        _event(r'{"event": "warning", "message": "half a pair: \ud83d"}')


@pytest.mark.parametrize(
    "told",
    [
        ("x" * 97, 1, 0.0, 0.0),
        ("a\x00b", 1, 0.0, 0.0),
        ("loss", 2**31, 0.0, 0.0),
        ("loss", "1", 0.0, 0.0),
        ("loss", 1, None, 0.0),
        ("loss", 1, 0.0, "0"),
    ],
)
def test_a_metric_that_no_database_takes_is_refused(told: tuple[object, object, object, object]) -> None:
    assert point("student-0/loss", 1, 0, None) == ("student-0/loss", 1, 0.0, None)
    with pytest.raises(Untrustworthy):
        point(*told)
