"""Servers are taken from the environment, else found, else installed, else it is said what to install."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import servers
from tests.servers import postgres, redis


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.os.geteuid", lambda: 1000)
    with pytest.raises(servers.Missing, match=r"Run: apt-get install a-package; or set A_URL to a server's URL"):
        servers.require("no-such-program", package="a-package", variable="A_URL")


def test_a_program_is_found_in_a_folder_off_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "15" / "bin" / "some-server"
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.setenv("PATH", "/nowhere")
    assert servers.find("some-server", folders=[f"{tmp_path}/*/bin"]) == program
    assert servers.find("another-server", folders=[f"{tmp_path}/*/bin"]) is None


def test_a_server_of_the_environment_is_used_and_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = postgres.shared().url(), redis.shared().url()
    monkeypatch.setenv(postgres.VARIABLE, ours[0])
    monkeypatch.setenv(redis.VARIABLE, ours[1])
    database, broker = postgres.fresh(), redis.fresh()
    assert [urlsplit(url).port for url in (database, broker)] == [urlsplit(url).port for url in ours]
    postgres.drop(database)
    assert postgres.shared().ready()


def test_a_killed_server_comes_back_on_its_port() -> None:
    server = redis.Redis()
    server.start()
    with server.client() as client:
        client.set("a", "b")
    server.kill()
    server.start()
    with server.client() as client:
        assert client.get("a") is None
    server.stop()
