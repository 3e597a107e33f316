"""What every method's fields share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from stillhouse.spec.base import SpecModel

Weight = Annotated[float, Field(ge=0, le=1000)]
FeatureWeight = Annotated[float, Field(ge=0, le=1_000_000)]
"""Of distances between features, whose means are small."""
Temperature = Annotated[float, Field(gt=0, le=100)]
WarmUp = Annotated[int, Field(ge=0, le=10_000)]
Points = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*(:input)?$")]],
    Field(min_length=1, max_length=32),
]
"""Module paths inside a network, such as ``layer2``, or ``layer2.0.relu:input`` for what goes into a module."""

LARGE_SCALE = 500
"""From so many classes on, what a person leaves out takes the values published for ImageNet, else for CIFAR-100."""

CE = "Weight of the cross-entropy with the labels."
KD = "Weight of the imitation of the teacher's logits, times temperature squared."
FEATURE = "Weight of the distance between the features."
TEMPERATURE = "Divides the logits of teacher and student."
WARMUP = "The imitation's weight rises evenly over so many epochs; 0 starts in full."
STUDENT_POINTS = "Module paths in the student; null takes the architecture's own."
TEACHER_POINTS = "Module paths in the teacher; null takes the architecture's own."
STANDARDISE = "Compare standardised logits; from three classes on, and made for more than twenty."


class Imitation(SpecModel):
    """A method that imitates a teacher, alone or among several."""

    name: str
    weight: float = Field(default=1.0, gt=0, le=1000, description="Multiplies all of this method's terms.")

    needed: ClassVar[tuple[str, ...]] = ()
    """Weights of which each must be above zero, or nothing would be distilled."""
    parts: ClassVar[tuple[str, ...]] = ()
    """Weights of which one must be."""
    large_scale: ClassVar[dict[str, Any]] = {}
    """The published values for ImageNet, where they differ."""
    reads_features: ClassVar[bool] = False
    """Whether the teacher must be a network whose features can be read."""
    student_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of feature points it reads; the first gives way to those that are named."""
    teacher_kinds: ClassVar[tuple[str, ...]] = ()
    mixes_images: ClassVar[bool] = False
    when_standardised: ClassVar[dict[str, Any]] = {}
    """The published values for standardised logits."""

    @property
    def strong_view(self) -> bool:
        """Whether teacher and student see each image twice, the second time changed strongly."""
        return False

    def for_views(self, *, one: bool) -> Self:
        """The same with one view, where that is all there can or should be ``one`` and nothing else was asked for."""
        return self

    @model_validator(mode="before")
    @classmethod
    def _standardised(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("standardise") is True:
            return {**cls.when_standardised, **given}
        return given

    @model_validator(mode="after")
    def _imitates_something(self) -> Self:
        zero = [name for name in self.needed if getattr(self, name) == 0]
        if not zero and self.parts and all(getattr(self, name) == 0 for name in self.parts):
            zero = list(self.parts)
        if zero:
            given = f"{zero[0]} is 0" if len(zero) == 1 else f"{' and '.join(zero)} are 0"
            raise ValueError(f"{given}, so nothing would be distilled; use the method 'none' for plain training")
        return self

    def for_classes(self, classes: int) -> Self:
        """The same with what was left out taken from the reference for so many classes."""
        if classes < LARGE_SCALE or getattr(self, "standardise", False):
            return self
        omitted = {name: value for name, value in self.large_scale.items() if name not in self.model_fields_set}
        return self.model_copy(update=omitted)
