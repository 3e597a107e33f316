"""The job spec, the one contract between client, API and worker. Pydantic only."""

from __future__ import annotations

from stillhouse.spec.job import DatasetRef, JobSpec
from stillhouse.spec.reasons import REASONS, STATUSES, TERMINAL, Reason, Status

__all__ = ["REASONS", "STATUSES", "TERMINAL", "DatasetRef", "JobSpec", "Reason", "Status"]
