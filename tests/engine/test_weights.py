"""Weights from files as people have them, and from files made to do harm."""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from worker.engine import weights
from worker.engine.errors import WeightsRefused
from worker.engine.network import Preprocessing, build_network, head_names
from worker.engine.weights import fit, read

SHAPE = Preprocessing((3, 8, 8), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CLASSES = tuple("abcdefg")


def body(seed: int, *, classes: int = 7, architecture: str = "resnet8") -> nn.Module:
    return build_network(architecture=architecture, classes=classes, preprocessing=SHAPE, seed=seed).body


def saved(tmp_path: Path, content: Any) -> Path:
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


STATE = {name: tensor.contiguous() for name, tensor in body(1).state_dict().items()}
PREFIXED = {f"module.{name}": tensor for name, tensor in STATE.items()}
WRAPPED = {
    "flat": STATE,
    "state_dict": {"state_dict": STATE, "epoch": 3, "best_acc": 0.7, "arch": "resnet8"},
    "module.": {"state_dict": PREFIXED},
    "_orig_mod.module.": {"model": {f"_orig_mod.{name}": tensor for name, tensor in PREFIXED.items()}},
    "model.": {"state_dict": {f"model.{name}": tensor for name, tensor in STATE.items()}},
    "net of a trainer": {"net": STATE, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}}},
    "averaged": {"model": body(2).state_dict(), "model_ema": {"module": STATE}, "args": argparse.Namespace(lr=0.1)},
    "deep": {"checkpoint": {"network": STATE}, "step": torch.tensor(7)},
    "strays": {**STATE, "conv1.weight_mask": torch.ones(3), "total_ops": torch.zeros(1), "fc.mask": torch.ones(7)},
    "no counters": {name: tensor for name, tensor in STATE.items() if "num_batches" not in name},
    "a criterion beside": {**PREFIXED, "criterion.weight": torch.ones(7)},
    "half precision": {name: tensor.half().float().half() for name, tensor in STATE.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_any_common_wrapping_is_peeled(tmp_path: Path, wrapping: str) -> None:
    network = body(9)
    found = read(saved(tmp_path, WRAPPED[wrapping]))
    report = fit(network, found.tensors)
    assert report.by_order == {}
    if wrapping == "half precision":
        assert all(torch.allclose(network.state_dict()[name], STATE[name], atol=1e-3) for name in STATE)
    else:
        assert same(network, body(1))


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    found = read(saved(tmp_path, {"state_dict": {**PREFIXED, "module.fc.weight_mask": torch.ones(3)}}))
    assert (found.format, found.wrappers, found.set_aside) == ("torch", ("state_dict",), ["module.fc.weight_mask"])
    report = fit(body(9), {**found.tensors, "module.extra": torch.ones(2)})
    assert (report.prefix, report.left_over) == ("module.", ["extra"])
    assert json.loads(json.dumps(report.describe()))["prefix"] == "module."


def test_safetensors_and_the_oldest_format_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("weights.safetensors", "old.pth"):
        network = body(9)
        fit(network, read(tmp_path / name).tensors)
        assert same(network, body(1))


def test_other_names_are_matched_by_order_where_every_shape_and_kind_agrees() -> None:
    kinds = [(name.rpartition(".")[2], tensor) for name, tensor in STATE.items() if "num_batches" not in name]
    renamed = {f"part{number}.{kind}": tensor for number, (kind, tensor) in enumerate(kinds)}
    network = body(9)
    report = fit(network, renamed)
    assert len(report.by_order) == len(renamed)
    assert all(torch.equal(network.state_dict()[name], STATE[name]) for name in STATE if "num_batches" not in name)
    swapped = dict(reversed(renamed.items()))
    with pytest.raises(WeightsRefused, match="are not in the file"):
        fit(body(9), swapped)


def test_a_convolution_over_a_whole_map_is_a_linear_layer() -> None:
    shape = Preprocessing((1, 32, 32), (0.0,), (1.0,))
    network, trained = (
        build_network(architecture="lenet5", classes=10, preprocessing=shape, seed=seed).body for seed in (1, 2)
    )
    state = trained.state_dict()
    names = ["c1", "c3", "c5", "f6", "f7"]
    other = {}
    for number, (name, tensor) in enumerate(state.items()):
        foreign = f"{names[number // 2]}.{name.rpartition('.')[2]}"
        other[foreign] = tensor.reshape(120, 16, 5, 5) if tensor.shape[1:] == (400,) else tensor
    assert len(fit(network, other).by_order) == 10
    assert same(network, trained)


def test_a_head_of_other_classes_is_replaced_only_when_fine_tuned(tmp_path: Path) -> None:
    network = body(9, classes=5)
    head = head_names(network, "resnet8", classes=5, preprocessing=SHAPE)
    assert head == {"fc.weight", "fc.bias"}
    with pytest.raises(WeightsRefused, match="tell 7 classes apart, where 5 are wanted") as caught:
        fit(network, STATE, head=head)
    assert "train:" in caught.value.remedy
    fresh = network.state_dict()["fc.weight"].clone()
    report = fit(network, STATE, head=head, replace_head=True)
    assert set(report.new_head) == head
    assert torch.equal(network.state_dict()["fc.weight"], fresh)
    assert torch.equal(network.state_dict()["conv1.weight"], STATE["conv1.weight"])


@pytest.mark.parametrize("replace_head", [False, True])
def test_weights_of_another_network_are_refused(*, replace_head: bool) -> None:
    network = body(9, architecture="resnet14")
    head = head_names(network, "resnet14", classes=7, preprocessing=SHAPE)
    with pytest.raises(WeightsRefused, match=r"layer1\.1\.conv1\.weight"):
        fit(network, STATE, head=head, replace_head=replace_head)
    with pytest.raises(WeightsRefused, match=r"conv1\.weight is 16x1x3x3 in the file and 16x3x3x3 in the network"):
        fit(body(9), {**STATE, "conv1.weight": torch.zeros(16, 1, 3, 3)})


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.uint16, torch.int64, torch.complex64])
def test_weights_of_another_kind_are_refused_and_not_cast(dtype: torch.dtype) -> None:
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(WeightsRefused, match=rf"conv1\.weight is {kind} in the file and float32 in the network"):
        fit(body(9), {**STATE, "conv1.weight": torch.ones(STATE["conv1.weight"].shape).to(dtype)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_in_other_precisions_are_taken(dtype: torch.dtype) -> None:
    network, given = body(9), {name: tensor.to(dtype) for name, tensor in STATE.items() if tensor.ndim}
    fit(network, given)
    assert torch.equal(network.state_dict()["conv1.weight"], given["conv1.weight"].float())


def test_a_number_beyond_the_networks_precision_is_refused() -> None:
    with pytest.raises(WeightsRefused, match=r"fc\.bias are not all finite as float32"):
        fit(body(9), {**STATE, "fc.bias": torch.full((7,), 1e300, dtype=torch.float64)})


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(WeightsRefused, match=r"fc\.bias are not all finite"):
        fit(body(9), {**STATE, "fc.bias": torch.full((7,), float("nan"))})


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_code_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (
        {"state_dict": STATE, "extra": Bomb()},
        body(1),
        {"optimizer": torch.optim.SGD(body(1).parameters())},
    ):
        with pytest.raises(WeightsRefused, match="would run code; nothing of it was run") as caught:
            read(saved(tmp_path, content))
        assert "state_dict" in caught.value.remedy
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsRefused):
        read(tmp_path / "plain.pkl")
    assert not (tmp_path / "ran").exists()


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"conv1.weight": torch.zeros(1).expand(1024, 1024, 1024, 1024)})
    assert path.stat().st_size < 2000
    with pytest.raises(WeightsRefused, match="claims 4,398,046,511,104 bytes"):
        read(path)


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.empty(3, device="meta")], ids=["sparse", "meta"])
def test_tensors_of_other_kinds_are_refused(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(WeightsRefused, match="sparse, quantized or without data"):
        read(saved(tmp_path, {"weight": tensor}))


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_archives_that_are_no_weights_are_refused_with_what_they_are(tmp_path: Path) -> None:
    scripted = tmp_path / "scripted.pt"
    torch.jit.script(nn.Linear(2, 2)).save(str(scripted))
    exported = tmp_path / "exported.pt2"
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), exported)
    bomb = archive(tmp_path / "bomb", {"a/data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    other = archive(tmp_path / "other", {"a/readme": b"x"})
    for path, reason in (
        (scripted, "TorchScript"),
        (exported, "exported program"),
        (bomb, "claims to unpack to 10,000,000"),
        (other, "not one that torch.save wrote"),
    ):
        with pytest.raises(WeightsRefused, match=reason):
            read(path)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path, STATE).read_bytes()
    save_file(STATE, tmp_path / "whole.safetensors")
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    for content in (
        whole[: len(whole) // 2],
        tensors[: len(tensors) // 2],
        b"",
        b"\x89HDF",
        b"\x80\x02nonsense",
        b"PK\x03\x04",
    ):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(WeightsRefused):
            read(tmp_path / "file")
    with pytest.raises(WeightsRefused, match="no tensors with names"):
        read(saved(tmp_path, {"epoch": 3}))
    with pytest.raises(WeightsRefused, match="several sets of weights"):
        read(saved(tmp_path, {"one": STATE, "two": STATE}))
    with pytest.raises(WeightsRefused, match="at most 100 are read"):
        read(saved(tmp_path, STATE), max_bytes=100)


def test_stored_weights_rebuild_the_network_with_its_own_preprocessing(tmp_path: Path) -> None:
    described = weights.describe("resnet8", "standard", SHAPE, CLASSES, 77_000)
    weights.save(tmp_path, "teacher", STATE, described)
    stored = weights.load(tmp_path, "teacher")
    network, report = weights.rebuild(stored, classes=CLASSES)
    assert (network.preprocessing, report.by_name) == (SHAPE, 47)
    assert same(network.body, body(1))
    shuffled, _ = weights.rebuild(stored, classes=tuple(reversed(CLASSES)))
    images = torch.rand(2, 3, 8, 8)
    network.eval()
    shuffled.eval()
    assert torch.allclose(shuffled(images).logits, network(images).logits.flip(1), atol=1e-6)
    assert torch.equal(weights.restore(tmp_path, "teacher")(images).logits, network(images).logits)
    larger, _ = weights.rebuild(stored, classes=CLASSES, side=16)
    assert larger.preprocessing.shape == (3, 16, 16)
    with pytest.raises(WeightsRefused, match="7 classes apart, where 2"):
        weights.rebuild(stored, classes=("x", "y"))
    tuned, report = weights.rebuild(stored, classes=("x", "y"), seed=3, replace_head=True)
    assert (tuned(images).logits.shape, len(report.new_head)) == ((2, 2), 2)


def test_a_description_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    for content in ("{}", "[1]", "no json", '{"architecture": "resnet8", "input": {"shape": [1]}}'):
        (tmp_path / "teacher.json").write_text(content)
        with pytest.raises(WeightsRefused, match="not whole"):
            weights.load(tmp_path, "teacher")
