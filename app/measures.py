"""What one process counts of itself: how long its answers took, and what its store refused."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Measures:
    """A registry of its own for each application, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "stillhouse_request_seconds",
            "From a request to the head of its answer, by route template.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.store_errors = Counter(
            "stillhouse_store_errors",
            "Requests that failed because files could not be read or written.",
            registry=self.registry,
        )
        Info("stillhouse_build", "The version that answers.", registry=self.registry).info(
            {"version": version("stillhouse")}
        )
