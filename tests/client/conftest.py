"""A server of a few lines behind httpx's own seam."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from stillhouse import Client
from stillhouse.client import config

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillhouse.client.sync.pause_before", lambda _attempt: 0.0)
    monkeypatch.setattr("stillhouse.client.asynchronous.pause_before", lambda _attempt: 0.0)
    assert config.pause_before(0) > 0


@pytest.fixture
def connect() -> Iterator[Callable[[Handler], Client]]:
    opened: list[Client] = []

    def make(handler: Handler) -> Client:
        opened.append(Client("http://server", "sk_test", transport=httpx.MockTransport(handler)))
        return opened[-1]

    yield make
    for client in opened:
        client.close()
