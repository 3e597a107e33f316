"""A class without samples, a fraction that empties a split: refused where it can be told, else the job's end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.spec import JobSpec
from stillhouse.spec.datasets import DATASETS, DatasetFacts
from stillhouse.spec.reasons import REASONS
from stillhouse.spec.review import review
from worker import train
from worker.child import Emitter
from worker.engine.data import ImageSet, RawDataset, store
from worker.engine.data.split import split_dataset
from worker.engine.errors import EmptySplit
from worker.sandbox import Protections


class Heard(Emitter):
    """What a child says, kept."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.said: list[dict[str, Any]] = []

    def emit(self, event: str, **data: Any) -> None:
        self.said.append({"event": event, **data})


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """A child sets these for its whole process."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def spec(validation: float, dataset: str = "digits") -> JobSpec:
    student = {"layers": [{"name": "flatten"}, {"name": "linear"}]}
    given = {"dataset": {"id": dataset, "validation": validation}, "student": student, "method": {"name": "none"}}
    return JobSpec.model_validate(given)


def staged(folder: Path, labels: list[int]) -> None:
    numbers = torch.tensor(labels)
    images = ImageSet(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), numbers)
    store.save(folder / "dataset", RawDataset("made", tuple("abc"), (0.5,), (0.5,), images, None))


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(
    ("labels", "validation", "sentence", "remedy"),
    [
        ([0, 1] * 30, 0.1, "1 of the 3 classes have no training image: c.", "Give every class training images"),
        ([0, 1, 2] * 30, 0.01, "takes 0 of the 27 images of class 'a'", "Choose a fraction"),
        (
            [0, 1] * 30 + [2] * 3,
            0.1,
            "takes 0 of the 3 images of class 'c'",
            "Choose a fraction",
        ),
    ],
)
def test_the_job_ends_with_reason_fault_and_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: list[int],
    validation: float,
    sentence: str,
    remedy: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    staged(tmp_path, labels)
    plan = {"spec": spec(validation).model_dump(mode="json"), "settled": None, "checkpoint_seconds": 1}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    heard = Heard()
    assert train.run([], heard, Protections()) == 1
    last = heard.said[-1]
    assert (last["event"], last["reason"]) == ("failed", "bad_dataset")
    assert sentence in last["detail"]
    assert remedy in last["detail"]
    assert (REASONS["bad_dataset"].fault, REASONS["bad_dataset"].retryable) == ("user", False)


@pytest.mark.parametrize("validation", [0.001, 0.999])
@pytest.mark.parametrize("name", ["digits", "cifar100", "emnist-letters", "semeion", "flowers102"])
def test_a_fraction_that_empties_a_built_in_set_is_refused_before_it_is_stored(name: str, validation: float) -> None:
    """Sets that bring a validation split of their own have nothing drawn from train."""
    pointers = [error.pointer for error in review(spec(validation, name)).errors]
    known = DATASETS[name]
    empties = known.validation is None and not len(known.classes) <= known.train * validation <= known.train - len(
        known.classes
    )
    assert ("/dataset/validation" in pointers) == empties


def test_a_fraction_is_held_against_an_uploaded_sets_rarest_class() -> None:
    facts = DatasetFacts(name="ds_1", classes=("a", "b"), shape=(1, 8, 8), train=1000, test=10, smallest_class=4)
    (error,) = review(spec(0.1, "ds_1"), facts).errors
    assert error.pointer == "/dataset/validation"
    assert "takes 0 of the 4 images of a class" in error.message
    assert not review(spec(0.3, "ds_1"), facts).errors


@pytest.mark.parametrize(
    ("rarest", "validation", "pointers"),
    [
        (4, 0.0, ["/dataset/id"]),
        (5, 0.5, ["/dataset/id"]),
        (6, 0.0, []),
        (6, 0.1, ["/dataset/validation"]),
        (6, 0.5, []),
        (9, 0.07, []),
    ],
)
def test_a_test_split_that_is_drawn_must_have_every_class_too(
    rarest: int, validation: float, pointers: list[str]
) -> None:
    """As the engine draws: a tenth for the test, then the fraction of what is left."""
    facts = DatasetFacts(
        name="ds_1", classes=("a", "b"), shape=(1, 8, 8), train=1000 + rarest, test=None, smallest_class=rarest
    )
    errors = review(spec(validation, "ds_1"), facts).errors
    labels = torch.tensor([0] * 1000 + [1] * rarest)
    raw = RawDataset("made", ("a", "b"), (0.5,), (0.5,), ImageSet(torch.zeros(len(labels), 1, 1, 1), labels), None)
    assert [error.pointer for error in errors] == pointers
    if pointers:
        drawn = {"/dataset/id": "a test fraction", "/dataset/validation": "a validation fraction"}[pointers[0]]
        with pytest.raises(EmptySplit, match=drawn):
            split_dataset(raw, validation=validation, seed=0)
    else:
        assert torch.bincount(split_dataset(raw, validation=validation, seed=0).test.labels, minlength=2)[1] == 1
