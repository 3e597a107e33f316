"""The worker's parts: the sandbox, the broker's folder, staging, storage, the heartbeat."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.config import Settings
from app.db import Database, now
from app.errors import StorageError
from app.failing import CannotStart
from app.lifecycle.lease import LeaseLost, held
from app.migrate import upgrade
from app.queue import RUN_NEXT, Doorbell, create_celery
from app.storage import LocalStorage, open_storage
from app.tables import Job, Project
from tests.app.running import claimed, ended
from tests.harness import TREE, alive, eventually
from tests.servers.backends import BACKENDS, backend
from tests.worker.fetching import fetched
from worker import sandbox, scratch, staging
from worker.child import Emitter
from worker.heartbeat import Heartbeat
from worker.reporter import Reporter, resumable
from worker.sandbox import spawn


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Database]:
    """One waiting job, ``job_1``, on SQLite and on PostgreSQL in turn."""
    with backend(request.param) as urls:
        url = urls.get("STILLHOUSE_DATABASE_URL", settings.database_url)
        upgrade(url)
        yield from with_one_job(url)


def with_one_job(url: str) -> Iterator[Database]:
    opened = Database(url)
    with opened.transaction() as session:
        session.add(Project(id="prj", name="p", created_at=now(session)))
        session.flush()
        session.add(
            Job(
                id="job_1",
                project_id="prj",
                name="n",
                spec={},
                queue="default",
                priority=0,
                status="queued",
                progress={},
                attempt=0,
                losses=0,
                last_seq=0,
                log_bytes=0,
                run_seconds=0.0,
                created_at=now(session),
            )
        )
    yield opened
    opened.dispose()


def confined(program: str, folder: Path) -> str:
    """What ``program`` prints after ``confine``, with a clean environment."""
    lines = f"from worker.sandbox import confine; confine(network=False)\n{program}"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TREE), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", lines]
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return found.stdout.strip() + found.stderr.strip()


def protections() -> list[str]:
    found = subprocess.run(
        [sys.executable, "-m", "worker.sandbox"], cwd=TREE, capture_output=True, text=True, check=True
    )
    held_ones: list[str] = json.loads(found.stdout)["held"]
    return held_ones


def user_of(process: int) -> int:
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("Uid:")]
    return int(line.split()[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="to give up root takes root, which CI is")
def test_a_child_cannot_end_another_ones(tmp_path: Path) -> None:
    """As where all may read the interpreter; it is loaded before, since here it may lie in a closed folder."""
    program = """
import os, sys
from worker import sandbox
sandbox._bound_to_root = lambda: None
folder = sandbox.Path(sys.argv[1])
sandbox._give(folder, sandbox._free_user())
os.chdir(folder)
print(sandbox._leave_root(), os.getresuid(), os.getgroups(), flush=True)
for victim in sys.stdin:
    try:
        os.kill(int(victim), 9)
    except PermissionError as error:
        print(error, flush=True)
"""
    with ExitStack() as ends:
        children = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            command = [sys.executable, "-c", program, str(tmp_path / name)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            child = ends.enter_context(subprocess.Popen(command, cwd=TREE, text=True, **pipes))  # type: ignore[call-overload]
            ends.callback(child.kill)
            (user,) = {int(each) for each in re.findall(r"\d+", child.stdout.readline())}
            assert user == (tmp_path / name).stat().st_uid == user_of(child.pid) != 0
            children.append((child, user))
        (one, its_user), (other, another) = children
        assert its_user != another
        one.stdin.write(f"{other.pid}\n")
        one.stdin.flush()
        assert "not permitted" in one.stdout.readline()
        assert other.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a folder away takes root, which CI is")
def test_each_child_is_given_its_folder_under_a_user_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_bound_to_root", lambda: None)
    random.seed(0)  # of two that are chosen at the same moment one in 4,336 pairs is alike
    users = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        spawn("train", folder=tmp_path / name, network=False).close()
        users.add((tmp_path / name).stat().st_uid)
    assert len(users - {0, sandbox.NOBODY}) == 2


def test_signs_of_life_do_not_flood_the_supervisor() -> None:
    reading, writing = os.pipe()
    emitter = Emitter(writing)
    for _ in range(1000):
        emitter.alive()
    assert os.read(reading, 2**16).count(b"alive") == 1


def test_a_child_gets_none_of_its_parents_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLHOUSE_DATABASE_URL", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    child = spawn("fetch", ["digits"], folder=tmp_path, network=False)
    try:
        told = Path(f"/proc/{child.process.pid}/environ")
        environment = eventually(told.read_bytes, what="the child's environment")  # empty for a moment after exec
        assert b"secret" not in environment
        assert b"PYTHONPATH" in environment
    finally:
        child.close()


def test_a_child_is_gone_when_its_supervisor_is(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from worker.sandbox import spawn\n"
        "child = spawn('fetch', ['digits'], folder=Path('.'), network=False)\n"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not alive(pid), what="the child to be gone")


@pytest.mark.skipif("no network" not in protections(), reason="this kernel gives no network namespace; doctor says so")
def test_a_confined_child_has_loopback_and_no_other_network(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "listener = socket.create_server(('127.0.0.1', 0)); port = listener.getsockname()[1]\n"
        "socket.create_connection(('127.0.0.1', port)).close(); print('loopback')\n"
        "print([name for _, name in socket.if_nameindex()])"
    )
    assert confined(program, tmp_path) == "loopback\n['lo']"


def test_a_confined_child_cannot_gain_privileges_and_leaves_no_core(tmp_path: Path) -> None:
    program = (
        "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')])"
    )
    assert confined(program, tmp_path) == "(0, 0)\n['1']"


def test_the_fetching_child_says_in_one_line_why_it_could_not(tmp_path: Path) -> None:
    """A folder that holds a damaged MNIST: torchvision finds the digest wrong and has nowhere to download from."""
    raw = tmp_path / "given" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    given = Settings(data_dir=tmp_path / "data", datasets_dir=tmp_path / "given")
    wanted = staging.builtin(given, "mnist")
    (said,) = fetched(given, wanted, tmp_path / "scratch")
    assert (said["event"], said["reason"]) == ("failed", "download_failed")
    assert "data set mnist: not (whole) in" in said["detail"]
    assert "\n" not in said["detail"]
    assert not wanted.is_kept


def test_a_fetched_data_set_is_kept_for_the_next_job(settings: Settings, tmp_path: Path) -> None:
    wanted = staging.builtin(settings, "digits")
    assert fetched(settings, wanted, tmp_path / "first") == []
    staging.keep(wanted, tmp_path / "first")
    assert wanted.is_kept
    assert {path.stat().st_uid for path in (settings.data_dir / "datasets" / "digits").iterdir()} == {os.geteuid()}
    (tmp_path / "second").mkdir()
    staging.stage_builtin(wanted, tmp_path / "second")
    staged = {path.name for path in (tmp_path / "second" / "dataset").iterdir()}
    assert staged == {"data.safetensors", "dataset.json"}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system to write to")
def test_a_scratch_folder_may_lie_on_another_file_system(settings: Settings, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:  # held in memory
        folder = Path(elsewhere, "fetch", "dataset")
        folder.mkdir(parents=True)
        for name in ("data.safetensors", "dataset.json"):
            (folder / name).write_text(name)
        assert folder.stat().st_dev != tmp_path.stat().st_dev
        wanted = staging.builtin(settings, "digits")
        staging.keep(wanted, Path(elsewhere))
        assert not folder.exists()
    assert wanted.is_kept
    assert [path.name for path in wanted.kept.parent.iterdir()] == ["digits"]


def test_messages_appear_whole_and_are_taken_once(settings: Settings) -> None:
    celery = create_celery(settings)
    bell = Doorbell(celery)
    for number in range(20):
        bell.ring("default", f"job_{number}")
    taken: list[str] = []

    def read() -> None:
        with create_celery(settings).connection_for_read() as connection:
            queue = connection.SimpleQueue("default")
            try:
                while message := queue.get(block=True, timeout=0.5):
                    taken.append(message.payload[0][0])
                    message.ack()
            except queue.Empty:
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    celery.close()
    assert sorted(taken) == sorted(f"job_{number}" for number in range(20))
    assert RUN_NEXT


def test_a_broker_that_is_down_loses_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0")
    Doorbell(create_celery(settings)).ring("default", "job_1")
    assert "the broker did not take the message for job_1" in caplog.text


def test_two_checkpoints_of_a_phase_are_kept_and_a_damaged_one_gives_way(database: Database, tmp_path: Path) -> None:
    storage = open_storage((tmp_path / "files").as_uri())
    lease = claimed(database)
    reporter = Reporter(database, lease, log_limit_bytes=100, lost=lambda: True)
    stale = []
    for number in (1, 2, 3):
        stored = storage.put(f"jobs/job_1/attempts/1/checkpoints/{number}.pt", io.BytesIO(b"state %d" % number))
        stale += reporter.checkpoint(stored, {"phase": "teacher", "complete": False, "epoch": number, "step": 0})
    assert stale == ["jobs/job_1/attempts/1/checkpoints/1.pt"]
    (tmp_path / "files/jobs/job_1/attempts/1/checkpoints/3.pt").write_bytes(b"state X")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with database.reading() as session:
        newest, rejected = staging.stage_checkpoints(storage, resumable(session, "job_1"), scratch)
    assert (scratch / "checkpoints" / "teacher.pt").read_bytes() == b"state 2"
    assert len(rejected) == 1
    assert newest is not None


def test_three_losses_without_a_checkpoint_are_poison(database: Database) -> None:
    for status in ("queued", "queued", "failed"):
        with database.transaction() as session:
            session.get_one(Job, "job_1").not_before = None
        ended(database, claimed(database), "worker_lost")
        with database.reading() as session:
            assert session.get_one(Job, "job_1").status == status
    with database.reading() as session:
        assert session.get_one(Job, "job_1").status_reason == "poison"


def test_a_loss_after_a_new_checkpoint_costs_nothing(database: Database, tmp_path: Path) -> None:
    storage = open_storage((tmp_path / "files").as_uri())
    for attempt in range(1, 6):
        lease = claimed(database)
        stored = storage.put(f"jobs/job_1/attempts/{attempt}/checkpoints/x.pt", io.BytesIO(b"x"))
        data = {"phase": "teacher", "complete": False, "epoch": attempt, "step": 0}
        Reporter(database, lease, log_limit_bytes=100, lost=lambda: True).checkpoint(stored, data)
        ended(database, lease, "worker_lost")
    with database.reading() as session:
        assert session.get_one(Job, "job_1").status == "queued"


def test_a_lost_lease_is_noticed_once_and_writes_nothing(database: Database) -> None:
    lease = claimed(database)
    lost = threading.Event()
    with Heartbeat(database, lease, every=0.05, lease_seconds=5, on_lost=lost.set) as beat:
        ended(database, lease, "worker_lost")
        assert lost.wait(5)
        assert beat.lost
    with pytest.raises(LeaseLost):
        Reporter(database, lease, log_limit_bytes=100, lost=lambda: True).stage("training")
    with pytest.raises(LeaseLost), database.transaction() as session:
        held(session, lease)


def test_a_heartbeat_that_cannot_be_sent_gives_up_before_the_lease_runs_out(
    settings: Settings, database: Database
) -> None:
    lease = claimed(database)
    elsewhere = Database(f"sqlite:///{settings.data_dir / 'empty.db'}")
    lost = threading.Event()
    with Heartbeat(elsewhere, lease, every=0.05, lease_seconds=1.5, on_lost=lost.set):
        assert lost.wait(10)
    elsewhere.dispose()


def test_local_files_appear_whole_and_only_under_keys(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "files")
    stored = storage.put("jobs/job_1/x.bin", io.BytesIO(b"abc"))
    assert (stored.bytes, stored.sha256[:8]) == (3, "ba7816bf")
    assert storage.fetch("jobs/job_1/x.bin", tmp_path / "y") == stored
    for key in ("../x", "jobs/../../x", "/etc/passwd", "jobs//x", "jobs/.hidden", "jobs/a\x00b", ""):
        with pytest.raises(ValueError, match="not a storage key"):
            storage.put(key, io.BytesIO(b"abc"))
    storage.delete_prefix("jobs/job_1")
    storage.delete_prefix("jobs/job_1")
    assert not (tmp_path / "files" / "jobs" / "job_1").exists()


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path / "files")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.storage.local.os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        storage.put("jobs/job_1/x.bin", io.BytesIO(b"abc"))
    assert list((tmp_path / "files" / "jobs" / "job_1").iterdir()) == []


def test_a_worker_throws_away_what_dead_ones_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    root = tmp_path / "scratch"
    (root / "dead" / "job_1-1-x").mkdir(parents=True)
    with scratch.own(tmp_path, "first"):
        (root / "first" / "job_2-1-x").mkdir()
        with scratch.own(tmp_path, "second"):
            assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["first", "second"]
            assert (root / "first" / "job_2-1-x").is_dir()
            with pytest.raises(CannotStart, match="is called first"):
                scratch.own(tmp_path, "first")
    with scratch.own(tmp_path, "first"):
        assert list((root / "first").iterdir()) == []
