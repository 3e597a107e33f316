"""A step that does not fit into memory: the number of images that would, found by trying."""

from __future__ import annotations

import subprocess
import sys
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.engine.conftest import network, run
from tests.harness import TREE
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.errors import OutOfMemory
from worker.engine.memory import out_of_memory, within_memory
from worker.engine.network import Network

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "python", "torch on a CPU", "c++"])
@pytest.mark.parametrize(("holds", "fits"), [(99, 32), (64, 32), (40, 16), (2, 2), (1, None)])
def test_half_of_the_largest_power_of_two_that_fits_is_named(error: Exception, holds: int, fits: int | None) -> None:
    def step(samples: Tensor) -> None:
        if len(samples) > holds:
            raise error

    samples = torch.arange(100)
    assert out_of_memory(error)
    with pytest.raises(OutOfMemory, match="a step of 100 images needs more memory than there is") as caught:
        within_memory(lambda: step(samples), step=step, samples=samples)
    assert caught.value.fits == fits
    wanted = f"Set batch_size to {fits}: that fits with room to spare." if fits else "Not even a step of 2 images fits"
    assert caught.value.remedy.startswith(wanted)


def test_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("a defect"), ValueError("can't allocate memory"), KeyError("x")):

        def step(_samples: Tensor, error: Exception = error) -> None:
            raise error

        assert not out_of_memory(error)
        with pytest.raises(type(error)) as caught:
            within_memory(lambda step=step: step(torch.arange(4)), step=step, samples=torch.arange(4))  # type: ignore[misc]
        assert caught.value is error


def test_onednns_word_counts_where_a_smaller_batch_gets_on() -> None:
    def step(samples: Tensor, *, holds: int) -> None:
        if len(samples) > holds:
            raise RuntimeError("could not create a primitive")

    samples = torch.arange(100)
    with pytest.raises(OutOfMemory) as caught:
        within_memory(lambda: step(samples, holds=20), step=partial(step, holds=20), samples=samples)
    assert caught.value.fits == 8
    with pytest.raises(RuntimeError, match="could not create a primitive"):
        within_memory(lambda: step(samples, holds=0), step=partial(step, holds=0), samples=samples)


def test_what_a_failed_step_held_is_free_before_the_next_is_tried() -> None:
    held: list[weakref.ref[Tensor]] = []

    def step(samples: Tensor) -> None:
        assert all(earlier() is None for earlier in held)
        activations = torch.zeros(len(samples))
        held.append(weakref.ref(activations))
        if len(samples) > 8:
            raise torch.OutOfMemoryError

    samples = torch.arange(64)
    with pytest.raises(OutOfMemory):
        within_memory(lambda: step(samples), step=step, samples=samples)
    assert len(held) == 4


class Greedy(nn.Module):
    """Has no memory for more than ten images; of a training the second time on alone, when asked."""

    def __init__(self, inner: nn.Module, *, spares: int) -> None:
        super().__init__()
        self.inner = inner
        self.spares = spares

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > 10:
            if self.spares == 0:
                raise torch.OutOfMemoryError("no memory left")
            self.spares -= 1
        found: Tensor = self.inner(images)
        return found


@pytest.mark.parametrize("spares", [0, 3], ids=["the canaries'", "a later step"])
def test_a_training_ends_with_the_batch_that_would_fit(digits: Dataset, spares: int) -> None:
    plain = network()
    student = Network(Greedy(plain.body, spares=spares), plain.preprocessing)
    with pytest.raises(
        OutOfMemory, match=r"a step of 32 images needs more memory than there is \(no memory left\)"
    ) as e:
        list(distill(run(digits, student=student)))
    assert e.value.fits == 4


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from tests.engine.conftest import ADAM, FP32
from worker.engine.data import ImageSet
from worker.engine.distill import distill
from worker.engine.errors import OutOfMemory
from worker.engine.methods import METHODS
from worker.engine.network import Preprocessing, build_network
from worker.engine.optim import Constant
from worker.engine.run import Recipe, Run

train = ImageSet(torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8), torch.arange(1024) % 10)
shape = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
recipe = {"epochs": 1, "optimizer": ADAM, "schedule": Constant(), "augmentation": "none", "precision": FP32, "seed": 1}

def first_steps(batch):
    student = build_network(architecture="resnet20", classes=10, preprocessing=shape, seed=1)
    given = {"method": METHODS["none"](), "teacher": None, "train": train, "validation": None}
    events = distill(Run(student=student, recipe=Recipe(batch_size=batch, **recipe), **given))
    next(events), next(events)

first_steps(8)
limit, batch = int(sys.argv[1]), int(sys.argv[2])
if not limit:
    (used,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
    limit = int(used.split()[1]) * 1024 + 150 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    first_steps(batch)
    print("it fits", file=sys.stderr)
except OutOfMemory as error:
    print(error, error.remedy, file=sys.stderr)
    print(limit, error.fits)
"""


def limited(limit: int, batch: int) -> subprocess.CompletedProcess[str]:
    """The first steps in a process of its own, since what one has freed it may not get again; 0 sets a limit."""
    command = [sys.executable, "-c", LIMITED, str(limit), str(batch)]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True, timeout=120)


def test_under_a_real_limit_the_named_batch_fits() -> None:
    """The allocator of the CPU refuses what the kernel's limit on private memory does not allow."""
    failed = limited(0, 1024)
    assert "a step of 1024 images needs more memory than there is" in failed.stderr
    limit, fits = map(int, failed.stdout.split())
    assert 2 <= fits <= 256
    assert "it fits" in limited(limit, fits).stderr
