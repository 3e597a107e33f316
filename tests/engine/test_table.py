"""The view table: cold, warm or absent, a job trains to the same bits; and no wrong row is ever believed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from tests.engine.conftest import FP32, LAYERS, first, network, run, teacher
from worker.engine import table as engine_table
from worker.engine.data import Dataset, ImageSet, images
from worker.engine.distill import distill
from worker.engine.ensemble import Ensemble
from worker.engine.events import EpochFinished
from worker.engine.frozen import fold
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.precision import Precision
from worker.engine.run import Run
from worker.engine.table import HEADER, Layout, ViewTable
from worker.engine.teacher import BATCH, LiveTeacher, with_table
from worker.engine.views import Views

BF16 = Precision("bf16", scales_gradients=False)
LAYOUT = Layout(rows=500, classes=7, dtype=torch.bfloat16)


def bits(training: Run) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in training.student.body.state_dict().items()}


def finish(training: Run) -> Run:
    for _ in distill(training):
        pass
    return training


def source(
    digits: Dataset, path: Path | None, *, precision: Precision = FP32, augmentation: str = "crop"
) -> LiveTeacher:
    knowing = teacher(digits, hidden=LAYERS[:3]).network
    if path is None:
        return LiveTeacher(knowing, precision=precision)
    return with_table(knowing, digits.train, path, augmentation=augmentation, classes=10, precision=precision)


def table_of(source: LiveTeacher) -> ViewTable:
    assert source.table is not None
    return source.table


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip"])
@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda precision: precision.name)
def test_cold_warm_and_absent_train_to_the_same_bits(
    digits: Dataset, tmp_path: Path, precision: Precision, augmentation: str
) -> None:
    def trained(path: Path | None) -> tuple[Run, LiveTeacher]:
        taught_by = source(digits, path, precision=precision, augmentation=augmentation)
        training = run(
            digits, method=METHODS["kd"](), taught_by=taught_by, precision=precision, augmentation=augmentation
        )
        return finish(training), taught_by

    absent, _ = trained(None)
    cold, filling = trained(tmp_path / "t")
    warm, filled = trained(tmp_path / "t")
    assert table_of(filling).written > 0
    assert (table_of(filled).written, table_of(filled).looked_up) == (0, 2 * len(digits.train))
    assert bits(absent) == bits(cold) == bits(warm)
    assert absent.history == cold.history == warm.history
    assert warm.table_found == "256 random rows of the view table were the same when computed again"


def test_half_a_table_of_another_order_trains_to_the_same_bits(digits: Dataset, tmp_path: Path) -> None:
    """Rows that another seed asked for, so that some of each batch are there."""
    other = source(digits, tmp_path / "t", augmentation="crop")
    finish(run(digits, method=METHODS["dkd"](), taught_by=other, seed=8, epochs=3))
    shared = source(digits, tmp_path / "t", augmentation="crop")
    partly = finish(run(digits, method=METHODS["kd"](), taught_by=shared))
    assert 0 < table_of(shared).written < table_of(shared).looked_up
    assert bits(partly) == bits(finish(run(digits, method=METHODS["kd"](), taught_by=source(digits, None))))


def test_a_pass_is_filled_with_what_is_asked_for_next(digits: Dataset, tmp_path: Path) -> None:
    taught_by, asked = source(digits, tmp_path / "t"), []
    compute = taught_by.rows

    def rows(images: Tensor) -> Tensor:
        asked.append(len(images))
        return compute(images)

    taught_by.rows = rows  # type: ignore[method-assign]
    finish(run(digits, method=METHODS["kd"](), taught_by=taught_by, epochs=1))
    table = table_of(taught_by)
    assert table.written == sum(asked) == len(digits.train)
    assert asked[:-1] == [BATCH] * (len(digits.train) // BATCH)


@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda precision: precision.name)
@pytest.mark.parametrize("name", ["resnet8", "vgg8", "mobilenetv2", "shufflenetv1", "wrn_16_1"])
def test_a_row_depends_on_nothing_but_its_image(name: str, precision: Precision) -> None:
    """Not on its place in the batch, nor on its neighbours, nor on how many there are."""
    source = LiveTeacher(_normed(name), precision=precision)
    images = torch.rand(BATCH + 5, 3, 32, 32)
    together = source.rows(images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(source.rows(images[order]), together[order])
    assert torch.equal(source.rows(images[7:8]), together[7:8])
    assert torch.equal(source.rows(images[30:]), together[30:])


@pytest.mark.parametrize(("name", "folded"), [("resnet8", 9), ("vgg8", 0), ("mobilenetv2", 53), ("wrn_16_1", 6)])
def test_the_quick_copy_answers_as_the_network_does(name: str, folded: int) -> None:
    net = _normed(name)
    before = net.fingerprint()
    images = torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        plain = net(images).logits
    scale = float(plain.abs().max())
    for precision, tolerance in ((FP32, 1e-5), (BF16, 5e-2)):
        quick = LiveTeacher(net, precision=precision).rows(images).float()
        assert float((quick - plain).abs().max()) < tolerance * scale
    assert net.fingerprint() == before
    assert fold(net.body) == folded


def test_layers_that_do_more_than_their_class_says_are_not_folded() -> None:
    class Active(nn.BatchNorm2d):
        def forward(self, maps: Tensor) -> Tensor:
            return super().forward(maps).relu()

    class Standardised(nn.Conv2d):
        def forward(self, maps: Tensor) -> Tensor:
            return nn.functional.conv2d(maps, self.weight / self.weight.std(), self.bias)

    class Branching(nn.Module):
        """A norm and something else read the convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, maps: Tensor) -> Tensor:
            read: Tensor = self.conv(maps)
            return self.norm(read) + read

    bare = nn.BatchNorm2d(4, track_running_stats=False)
    for body in (
        nn.Sequential(nn.Conv2d(3, 4, 1), Active(4)),
        nn.Sequential(Standardised(3, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), bare),
        Branching(),
    ):
        assert fold(body.eval()) == 0
    assert fold(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()) == 1


def _normed(name: str) -> Network:
    """A network whose norms have seen something; torch.fx cannot follow vgg8."""
    preprocessing = Preprocessing((3, 32, 32), (0.5,) * 3, (0.3,) * 3)
    net = build_network(architecture=name, classes=10, preprocessing=preprocessing, seed=3)
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    return net.eval()


def test_features_and_mixtures_are_computed_live(digits: Dataset, tmp_path: Path) -> None:
    for method in ("at", "patient"):
        taught_by = source(digits, tmp_path / method)
        finish(run(digits, method=METHODS[method](), taught_by=taught_by, epochs=1))
        assert table_of(taught_by).looked_up == 0
    unmixed = source(digits, tmp_path / "unmixed")
    finish(run(digits, method=METHODS["patient"](mixup=False), taught_by=unmixed, epochs=1))
    assert table_of(unmixed).looked_up == len(digits.train)


def test_several_teachers_have_one_table(digits: Dataset, tmp_path: Path) -> None:
    both = Ensemble([(2.0, teacher(digits).network), (1.0, teacher(digits, hidden=LAYERS[:3]).network)])  # type: ignore[list-item]
    for computed in (len(digits.train), 0):
        taught_by = with_table(both, digits.train, tmp_path / "t", augmentation="none", classes=10, precision=FP32)
        finish(run(digits, method=METHODS["kd"](), taught_by=taught_by, augmentation="none"))
        assert table_of(taught_by).written == computed


def test_a_table_of_other_bits_is_emptied_before_it_is_used(digits: Dataset, tmp_path: Path) -> None:
    undisturbed = finish(run(digits, method=METHODS["kd"](), taught_by=source(digits, None)))
    wrong = source(digits, tmp_path / "t")
    every = torch.arange(Views(digits.train, "crop").rows)
    right = wrong.look_up(every)
    table_of(wrong).write(every, torch.nextafter(right, right + 1))  # as a machine that rounds otherwise
    again = source(digits, tmp_path / "t")
    training = finish(run(digits, method=METHODS["kd"](), taught_by=again))
    assert training.table_found is not None
    assert "emptied: of 256 rows computed again 0 named another class" in training.table_found
    assert bits(training) == bits(undisturbed)


@pytest.mark.parametrize("change", ["teacher", "images", "augmentation", "precision", "preprocessing"])
def test_a_table_of_something_else_is_not_used(digits: Dataset, tmp_path: Path, change: str) -> None:
    net, split, augmentation, precision = network(5), digits.train, "crop", FP32
    made = with_table(net, split, tmp_path / "t", augmentation=augmentation, classes=10, precision=precision)
    table_of(made).write(torch.arange(9), torch.ones(9, 10))
    match change:
        case "teacher":
            net = network(6)
        case "images":
            split = ImageSet(split.images.flip(0), split.labels)
        case "augmentation":
            augmentation = "crop-flip"
        case "precision":
            precision = BF16
        case _:
            net = Network(net.body, Preprocessing((1, 8, 8), (0.1,), (0.4,)))
    other = with_table(net, split, tmp_path / "t", augmentation=augmentation, classes=10, precision=precision)
    assert not table_of(other).there(torch.arange(9)).any()


def test_a_table_over_the_limit_is_not_made(digits: Dataset, tmp_path: Path) -> None:
    net = network(5)
    made = with_table(net, digits.train, tmp_path / "t", augmentation="crop", classes=10, precision=FP32, limit=1000)
    assert made.table is None
    assert not (tmp_path / "t").exists()


def filled(path: Path) -> ViewTable:
    table = ViewTable(path, LAYOUT, {"of": "a test"})
    table.write(torch.arange(100), _logits(torch.arange(100)))
    return table


def _logits(rows: Tensor) -> Tensor:
    return (rows[:, None] + torch.arange(7) / 8).bfloat16()


def test_what_is_written_is_there_for_the_next_and_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path / "t")
    table = ViewTable(tmp_path / "t", LAYOUT, {"of": "a test"})
    rows = torch.tensor([3, 99, 100, 0, 499])
    logits, there = table.read(rows)
    assert there.tolist() == [True, True, False, True, False]
    assert torch.equal(logits[there], _logits(rows[there]))
    for row in (0, 99, 100):  # a single one lies in the file as it is, at whatever place
        assert table.there(torch.tensor([row])).tolist() == [row < 100]
    assert not len(table.there(torch.arange(0)))
    assert (tmp_path / "t").stat().st_size == LAYOUT.bytes == HEADER + 500 * (2 * 7 + 8)


@pytest.mark.parametrize("at_once", [7, 2**22])
def test_all_that_is_there_is_found_wherever_it_lies(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On pages of the file that lie apart, with rows across their bounds."""
    monkeypatch.setattr(engine_table, "_AT_ONCE", at_once)
    layout = Layout(rows=10_000, classes=7, dtype=torch.bfloat16)
    table = ViewTable(tmp_path / "t", layout, {"of": "a test"})
    assert not torch.cat([torch.arange(0), *table.written_rows()]).tolist()
    rows = torch.tensor([0, 1, 185, 186, 187, 3000, 3001, 6516, 9999])
    table.write(rows, _logits(rows))
    assert torch.cat(list(table.written_rows())).tolist() == rows.tolist()
    full = filled(tmp_path / "other")
    assert torch.cat(list(full.written_rows())).tolist() == list(range(100))


def test_a_few_rows_of_a_large_table_are_computed_again(digits: Dataset, tmp_path: Path) -> None:
    """64 of a million, which draws at random do not find."""
    many = digits.train.take(torch.arange(110_000) % len(digits.train))
    knowing = teacher(digits).network
    source = with_table(knowing, many, tmp_path / "t", augmentation="crop", classes=10, precision=FP32)
    assert source.views is not None
    assert source.views.rows == 990_000
    assert source.check_table(seed=1) == "the view table is empty"
    rows = torch.arange(64) * 15_001
    source.look_up(rows)
    assert source.check_table(seed=2) == "64 random rows of the view table were the same when computed again"
    table_of(source).write(rows[:1], torch.zeros(1, 10))
    found = source.check_table(seed=3)
    assert found is not None
    assert "emptied: of 64 rows computed again 1 named another class" in found
    assert source.check_table(seed=4) == "the view table is empty"


@pytest.mark.parametrize("place", [0, 6, 13, 14, 21], ids=str)
def test_a_row_with_a_wrong_byte_is_not_there(tmp_path: Path, place: int) -> None:
    filled(tmp_path / "t")
    with (tmp_path / "t").open("r+b") as file:
        at = HEADER + 5 * LAYOUT.stride + place
        file.seek(at)
        (old,) = file.read(1)
        file.seek(at)
        file.write(bytes([old ^ 1]))
    there = ViewTable(tmp_path / "t", LAYOUT, {"of": "a test"}).there(torch.arange(100))
    assert there.tolist() == [row != 5 for row in range(100)]


def test_a_row_in_anothers_place_is_not_there(tmp_path: Path) -> None:
    filled(tmp_path / "t")
    content = bytearray((tmp_path / "t").read_bytes())
    content[HEADER + LAYOUT.stride : HEADER + 2 * LAYOUT.stride] = content[HEADER : HEADER + LAYOUT.stride]
    (tmp_path / "t").write_bytes(content)
    there = ViewTable(tmp_path / "t", LAYOUT, {"of": "a test"}).there(torch.arange(3))
    assert there.tolist() == [True, False, True]


@pytest.mark.parametrize("damage", [b"", b"\0" * HEADER, b"{}", os.urandom(HEADER + 500 * 22)], ids=len)
def test_a_file_that_is_no_table_is_made_one(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "t").write_bytes(damage)
    table = ViewTable(tmp_path / "t", LAYOUT, {"of": "a test"})
    assert not table.there(torch.arange(500)).any()
    table.write(torch.tensor([4]), _logits(torch.tensor([4])))
    assert table.there(torch.tensor([3, 4])).tolist() == [False, True]


_ENDLESS = """
import sys, torch
from pathlib import Path
from worker.engine.table import Layout, ViewTable
layout = Layout(rows=500, classes=7, dtype=torch.bfloat16)
table = ViewTable(Path(sys.argv[1]), layout, {"of": "a test"})
print("begun", flush=True)
while True:
    for rows in torch.randperm(500).split(50):
        table.write(rows, (rows[:, None] + torch.arange(7) / 8).bfloat16())
    table.clear()
"""


def test_a_killed_process_leaves_no_wrong_row(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(tmp_path / "t")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"begun\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.2)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    logits, there = ViewTable(tmp_path / "t", LAYOUT, {"of": "a test"}).read(torch.arange(500))
    assert torch.equal(logits[there], _logits(torch.arange(500)[there]))


def test_a_full_disk_costs_the_rows_and_not_the_training(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = finish(run(digits, method=METHODS["kd"](), taught_by=source(digits, None)))
    taught_by = source(digits, tmp_path / "t")
    write, written = os.pwrite, []

    def pwrite(descriptor: int, content: bytes, at: int) -> int:
        if len(written) >= 50:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(at)
        return write(descriptor, content, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    training = finish(run(digits, method=METHODS["kd"](), taught_by=taught_by))
    assert table_of(taught_by).is_full
    assert bits(training) == bits(undisturbed)


@pytest.mark.parametrize("stop_at", [4, 15])
def test_a_training_goes_on_without_its_table_to_the_same_bits(digits: Dataset, tmp_path: Path, stop_at: int) -> None:
    undisturbed = finish(run(digits, method=METHODS["kd"](), taught_by=source(digits, None)))
    begun = run(digits, method=METHODS["kd"](), taught_by=source(digits, tmp_path / "t"))
    for count, _ in enumerate(distill(begun), start=1):
        if count == stop_at:
            break
    resumed = run(digits, method=METHODS["kd"](), taught_by=source(digits, tmp_path / "another"))
    resumed.load_state_dict(begun.state_dict())
    assert bits(finish(resumed)) == bits(undisturbed)


def test_images_that_are_no_views_are_computed_as_they_come(digits: Dataset, tmp_path: Path) -> None:
    taught_by = source(digits, tmp_path / "t")
    images = torch.rand(4, 1, 8, 8)
    given: Any = taught_by.outputs(images, first(4))
    assert torch.allclose(given.logits, taught_by.network(images).logits)
    assert table_of(taught_by).looked_up == 0


def test_the_loop_agrees_with_a_plain_one_step_by_step(digits: Dataset) -> None:
    """The same views through plain PyTorch: no channels last, no folded norms, no fused optimizer, no table."""
    for precision, tolerance in ((FP32, 1e-4), (BF16, 5e-2)):
        sgd = {"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
        layers = [layer for layer in LAYERS if layer["name"] != "dropout"]
        quick = run(
            digits,
            method=METHODS["kd"](),
            taught_by=source(digits, None, precision=precision),
            precision=precision,
            optimizer=sgd,
            augmentation="crop-flip",
            student=network(4, layers=layers),
        )
        plain, wise = network(4, layers=layers), source(digits, None).network.eval()
        plain.body.to(memory_format=torch.contiguous_format)
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
        rows = quick.views.of_epoch(seed=7, epoch=1).split(32)
        for event, some in zip(_steps(quick), rows, strict=False):
            images, labels = quick.views.show(some).contiguous(), digits.train.labels[quick.views.samples(some)]
            logits = plain(images).logits
            with torch.no_grad():
                theirs = (wise(images).logits / 4).log_softmax(1)
            soft = torch.nn.functional.kl_div(
                (logits / 4).log_softmax(1), theirs, log_target=True, reduction="batchmean"
            )
            loss = 0.1 * torch.nn.functional.cross_entropy(logits, labels) + 0.9 * 16 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for ours, theirs_too in zip(quick.student.parameters(), plain.parameters(), strict=True):
                assert float((ours - theirs_too).detach().abs().max()) < tolerance, event


def _steps(training: Run) -> Any:
    for event in distill(training):
        if isinstance(event, EpochFinished):
            return
        if type(event).__name__ == "StepFinished":
            yield event


def test_the_seeds_of_a_job_hash_its_images_once(digits: Dataset, tmp_path: Path) -> None:
    split = ImageSet(digits.train.images, digits.train.labels)
    knowing = teacher(digits).network
    about: dict[str, Any] = {"augmentation": "crop", "classes": 10, "precision": FP32}
    with patch("worker.engine.data.images.fingerprint", wraps=images.fingerprint) as hashed:
        for _ in range(3):
            with_table(knowing, split.to(torch.device("cpu")), tmp_path / "table", **about)
    assert hashed.call_count == 1
    assert split.fingerprint != ImageSet(digits.train.images, digits.train.labels.flip(0)).fingerprint
