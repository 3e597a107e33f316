"""kill -9 of the child, the worker, the API, and of all at once: the job ends with the same bytes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import pytest

from tests.faults.disturbance import TARGETS, Reference, disturb, undisturbed
from tests.harness import Service, Target, service
from tests.servers.backends import BACKENDS

SEED = 20261124
OFTEN = ("embedded", "child")
"""The other kills, and those on PostgreSQL and Redis, are for ``make test-slow``; ``test_fleet.py`` runs on these."""


@pytest.fixture(scope="module", params=BACKENDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("kills") / "data", backend=request.param) as started:
        yield started


@pytest.fixture(scope="module")
def expected(running: Service) -> Reference:
    return undisturbed(running)


@pytest.mark.parametrize(
    ("running", "target"),
    [
        pytest.param(backend, target, marks=() if (backend, target) == OFTEN else pytest.mark.slow)
        for backend in BACKENDS
        for target in TARGETS
    ],
    indirect=["running"],
)
def test_a_job_ends_with_the_same_bytes_after_a_kill(running: Service, expected: Reference, target: Target) -> None:
    disturbed = disturb(running, expected, deque([target]), random.Random(f"{SEED}-{target}"))
    assert disturbed.struck == (target,)
    assert disturbed.broken == ()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_kills_at_random_moments_change_no_byte(running: Service, expected: Reference) -> None:
    """On all backends together."""
    chance = random.Random(SEED)
    targets = deque([chance.choice(TARGETS) for _ in range(100 // len(BACKENDS))])
    while targets:
        disturbed = disturb(running, expected, targets, chance)
        assert disturbed.broken == (), disturbed
