"""Whether a method can work on a data set, as far as it can be told without the networks. The engine says so too."""

from __future__ import annotations

from dataclasses import dataclass, field

from stillhouse.spec.methods.base import Imitation
from stillhouse.spec.methods.features import ContrastiveDistillation, ReusedClassifier
from stillhouse.spec.methods.logits import CorrelationDistillation, DecoupledDistillation, NormalisedDistillation

_FEW_CLASSES = 20


@dataclass
class Fitness:
    """What was found: refusals as (field, reason), and warnings."""

    refusals: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def examine(method: Imitation, *, classes: int, images: int) -> Fitness:
    """``images`` are those of the training split, or at least as many."""
    found = Fitness()
    name = getattr(method, "name", "")
    if getattr(method, "standardise", False) and classes == 2:
        reason = "two standardised logits are always +0.71 and -0.71, whatever the teacher thinks; turn standardise off"
        found.refusals.append(("standardise", reason))
    elif getattr(method, "standardise", False) and classes <= _FEW_CLASSES:
        found.warnings.append(
            f"with {classes} classes standardised targets are soft whatever the teacher thinks; "
            "a temperature near 1, or standardise off, may teach more"
        )
    if isinstance(method, CorrelationDistillation) and classes == 2:
        reason = "with two classes the correlation over classes is always 1 or -1 and has no gradient; use kd"
        found.refusals.append(("name", reason))
    if isinstance(method, DecoupledDistillation | NormalisedDistillation) and classes == 2:
        found.warnings.append(f"with two classes {name} has no non-target part")
    if isinstance(method, ReusedClassifier):
        found.warnings.append("simkd serves a larger student: projector and teacher's classifier become part of it")
    if isinstance(method, ContrastiveDistillation) and method.negatives > images:
        found.warnings.append(f"crd draws as many negatives as there are training images, not {method.negatives}")
    if method.strong_view:
        found.warnings.append(
            f"{name} shows teacher and student two views of each image, so an epoch takes about twice as long, and the "
            "control's too; views: 1 shows one"
        )
    return found
