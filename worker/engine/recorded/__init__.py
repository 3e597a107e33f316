"""A teacher that is a file: its outputs for each training image, computed elsewhere, once."""

from __future__ import annotations

from worker.engine.recorded.keep import keep
from worker.engine.recorded.stored import LOGITS, load
from worker.engine.recorded.teacher import RecordedTeacher

__all__ = ["LOGITS", "RecordedTeacher", "keep", "load"]
