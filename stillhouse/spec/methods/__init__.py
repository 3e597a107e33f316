"""The methods a job may ask for. Each is what the student imitates, with its own bounded fields."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Discriminator, Field, Tag

from stillhouse.spec.base import SpecModel
from stillhouse.spec.methods.base import Imitation
from stillhouse.spec.methods.features import (
    AttentionTransfer,
    ContrastiveDistillation,
    FitNet,
    KnowledgeReview,
    ProbabilisticTransfer,
    RelationalDistillation,
    ReusedClassifier,
    SimilarityPreserving,
    VariationalInformation,
)
from stillhouse.spec.methods.logits import (
    CorrelationDistillation,
    DecoupledDistillation,
    FunctionMatching,
    KnowledgeDistillation,
    MultiLevelDistillation,
    NoDistillation,
    NormalisedDistillation,
    OneForAll,
)

__all__ = ["METHODS", "Imitation", "KnowledgeDistillation", "Method", "Methods", "NoDistillation", "title"]

Method = Annotated[
    KnowledgeDistillation
    | DecoupledDistillation
    | NormalisedDistillation
    | CorrelationDistillation
    | MultiLevelDistillation
    | OneForAll
    | FunctionMatching
    | FitNet
    | AttentionTransfer
    | SimilarityPreserving
    | RelationalDistillation
    | ProbabilisticTransfer
    | VariationalInformation
    | ContrastiveDistillation
    | KnowledgeReview
    | ReusedClassifier
    | NoDistillation,
    Field(discriminator="name"),
]

Methods = Annotated[
    Annotated[Method, Tag("one")] | Annotated[list[Method], Field(min_length=1, max_length=8), Tag("several")],
    Discriminator(lambda given: "several" if isinstance(given, list) else "one"),
]
"""One, or a combination: a list whose terms add up, each method's times its ``weight``."""

METHODS: dict[str, type[SpecModel]] = {
    method.model_fields["name"].default: method for method in get_args(get_args(Method)[0])
}
"""Every method of the contract by its name; a test holds it against the engine's."""


def title(methods: Methods) -> str:
    """``kd``, or ``fitnet + kd`` for a combination."""
    return " + ".join(method.name for method in methods) if isinstance(methods, list) else methods.name
