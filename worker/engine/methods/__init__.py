"""Every method by its name. To add one: a file here, a line here, and its fields in ``stillhouse.spec.methods``."""

from __future__ import annotations

from worker.engine.method import Method
from worker.engine.methods.kd import KnowledgeDistillation
from worker.engine.methods.none import NoDistillation

METHODS: dict[str, type[Method]] = {"kd": KnowledgeDistillation, "none": NoDistillation}
