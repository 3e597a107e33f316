"""The job spec: everything a run depends on. A stored spec has every default filled in, so it repeats the job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.spec.base import Label, SpecModel, Text, misfit
from stillhouse.spec.datasets import DATASETS
from stillhouse.spec.footprints import LOGITS
from stillhouse.spec.methods import Imitation, KnowledgeDistillation, Method, Methods, NoDistillation, title
from stillhouse.spec.networks import NamedTeacher, Student, Teacher, Teachers, training_of
from stillhouse.spec.training import Resources, Training


class DatasetRef(SpecModel):
    """Which data set, and how much of its training split is held out to choose the epoch that is served."""

    id: Text = Field(
        min_length=1, max_length=64, description="A built-in name from /v1/catalog/datasets, or ds_… of an upload."
    )
    validation: float = Field(default=0.1, ge=0, lt=1, description="0 selects nothing: the last epoch is served.")
    input_size: int | None = Field(
        default=None, ge=8, le=1024, description="Resize the short side to this and cut out the centre; null: as kept."
    )


class JobSpec(SpecModel):
    """One distillation job."""

    name: Text = Field(default="distillation", min_length=1, max_length=128, description="For people.")
    dataset: DatasetRef
    teacher: Teachers | None = Field(
        default=None, description="Needed by every method but 'none'; of a list, the probabilities are averaged."
    )
    student: Student
    method: Methods = Field(
        default_factory=KnowledgeDistillation, description="What the student imitates; a list adds methods up."
    )
    training: Training = Field(default_factory=Training)
    control: bool = Field(
        default=True, description="Also train the same student without a teacher, from the same weights."
    )
    export: list[Literal["safetensors"]] = Field(
        default=["safetensors"], min_length=1, max_length=8, description="Forms in which the student is served."
    )
    resources: Resources = Field(default_factory=Resources)
    tags: list[Label] = Field(
        default=[], max_length=32, description="To find the job by: letters (a to z, A to Z), digits and `._:/-`."
    )
    metadata: dict[Label, Annotated[Text, Field(max_length=512)]] = Field(
        default={},
        max_length=32,
        description="Your own pairs, kept and searchable: keys like tags, values of at most 512 characters in a line.",
    )

    @model_validator(mode="after")
    def _teacher_fits_method(self) -> JobSpec:
        if isinstance(self.method, NoDistillation):
            if self.teacher is not None:
                raise misfit("teacher", "method 'none' uses no teacher; leave teacher out or choose 'kd'")
        elif self.teacher is None:
            said = (
                f"method '{title(self.method)}' needs a teacher; name one, such as teacher: {{architecture: resnet20}}"
            )
            raise misfit("teacher", said, missing=True)
        return self

    @model_validator(mode="after")
    def _methods_fit_each_other(self) -> JobSpec:
        if not isinstance(self.method, list):
            return self
        names = [method.name for method in self.method]
        if len(set(names)) < len(names):
            raise misfit("method", f"methods {' + '.join(names)}: list each method once, with one weight")
        if "none" in names:
            raise misfit("method", "method 'none' imitates nothing, so it cannot be combined; leave it out of the list")
        mixing = [method.name for method in self.imitations if method.mixes_images]
        if mixing and len(names) > 1:
            raise misfit("method", f"method '{mixing[0]}' mixes images, so labels do not hold; it cannot be combined")
        return self

    @property
    def teachers(self) -> list[Teacher]:
        """All of them, in order."""
        if self.teacher is None:
            return []
        return self.teacher if isinstance(self.teacher, list) else [self.teacher]

    @property
    def imitations(self) -> list[Imitation]:
        """The methods that imitate a teacher; one view is enough for those that were not told how many to show, where
        images are shown as they are, or known to a teacher as they are alone.
        """
        listed: list[Method] = self.method if isinstance(self.method, list) else [self.method]
        recorded = any(
            isinstance(teacher, NamedTeacher) and teacher.architecture == LOGITS for teacher in self.teachers
        )
        as_they_are = recorded or self.training.augmentation == "none"
        return [method.for_views(one=as_they_are) for method in listed if isinstance(method, Imitation)]

    def complete(self, *, classes: int | None = None) -> JobSpec:
        """The same spec with every omitted value written out, as it is stored.

        ``classes`` are those of an uploaded data set: a method's reference values depend on their number.
        """
        if self.teacher is None:
            return self
        known = DATASETS.get(self.dataset.id)
        classes = classes or (len(known.classes) if known else 0)
        filled = [method.for_classes(classes) for method in self.imitations]
        teachers = [self._with_training(one) for one in self.teachers]
        return self.model_copy(
            update={
                "teacher": teachers if isinstance(self.teacher, list) else teachers[0],
                "method": filled if isinstance(self.method, list) else filled[0],
            }
        )

    def _with_training(self, teacher: Teacher) -> Teacher:
        training = training_of(teacher)
        if training is None:
            return teacher
        return teacher.model_copy(update={"train": training.filled_from(self.training)})
