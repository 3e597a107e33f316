"""Uploaded weights: what is taken, and what is refused with which sentence."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.convert import convert
from worker.engine.errors import EngineError
from worker.engine.network import build_body

DECLARED = {"architecture": "resnet8", "classes": ["a", "b", "c"], "mean": [0.5], "std": [0.25], "input_size": 12}


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_body("resnet8", classes=3, shape=(1, 12, 12)).state_dict()


def converted(upload: Path, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    report: dict[str, Any] = {}
    folder, declared = upload.parent, {**DECLARED, **changes}
    facts = convert(upload, folder / "made", scratch=folder / "unpacked", declared=declared, report=report)
    return facts, report


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_a_state_dict_becomes_safetensors_and_a_description(tmp_path: Path, kind: str) -> None:
    state = weights()
    if kind == "safetensors":
        save_file(state, tmp_path / "x")
    else:
        torch.save(state, tmp_path / "x")
    facts, report = converted(tmp_path / "x")
    assert (report["format"].split()[0], report["tensors"]) == (kind, len(state))
    kept = load_file(tmp_path / "made" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in state.items())
    assert facts == json.loads((tmp_path / "made" / "model.json").read_text())
    assert facts["input"] == {"shape": [1, 12, 12], "mean": [0.5], "std": [0.25]}
    assert facts["parameters"] == sum(
        value.numel() for name, value in state.items() if value.is_floating_point() and "running" not in name
    )


def test_counters_of_batches_may_be_missing_and_halves_become_floats(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in weights().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "x")
    converted(tmp_path / "x")
    assert load_file(tmp_path / "made" / "model.safetensors")["conv1.weight"].dtype == torch.float32


def refusals() -> dict[str, tuple[Any, str]]:
    state = weights()
    first, last = next(iter(state)), next(name for name in reversed(state) if name.endswith("weight"))
    huge = torch.zeros(1).as_strided((2**20, 2**20), (0, 0))
    return {
        "a missing tensor": ({n: v for n, v in state.items() if n != last}, f"1 of the network's .* not in .*{last}"),
        "another shape": ({**state, first: torch.zeros(2)}, first),
        "not a number": ({**state, first: state[first] * float("nan")}, f"{first} are not all finite"),
        "strides of nothing": ({**state, first: huge}, f"{first} claims .* where the file holds 4"),
        "a list": ([3], "no tensors"),
        "a number": (3, "no tensors"),
    }


@pytest.mark.parametrize("case", refusals())
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, said = refusals()[case]
    torch.save(content, tmp_path / "x")
    assert (tmp_path / "x").stat().st_size < 2**20
    with pytest.raises(EngineError, match=said) as caught:
        converted(tmp_path / "x")
    assert caught.value.remedy
    assert not (tmp_path / "made").exists()


def test_a_pickle_is_refused_and_nothing_of_it_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'run')!r}, 'w')",))

    torch.save({"state_dict": weights(), "optimizer": Evil()}, tmp_path / "x")
    (tmp_path / "y").write_bytes(pickle.dumps(Evil()))
    for name in ("x", "y"):
        with pytest.raises(EngineError, match=r"run|neither safetensors"):
            converted(tmp_path / name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [b"", b"hello", b"\x10\0\0\0\0\0\0\0{", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(EngineError, match=r"neither safetensors|damaged|not whole|pickle"):
        converted(tmp_path / "x")


def test_an_architecture_that_is_unknown_or_too_large_is_refused(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "x")
    with pytest.raises(EngineError, match="no architecture is called 'resnet9'"):
        converted(tmp_path / "x", architecture="resnet9")
    with pytest.raises(EngineError, match=r"of the network's .* tensors are not in the file"):
        converted(tmp_path / "x", architecture="resnet20")


def test_weights_of_other_classes_are_refused_with_a_remedy_for_an_upload(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "x")
    with pytest.raises(EngineError, match="tell 3 classes apart, where 2 are wanted") as told:
        converted(tmp_path / "x", classes=["a", "b"])
    assert told.value.remedy.startswith("Declare the classes that the weights were trained for")


def test_wrapped_weights_are_found_and_the_report_says_what_fitted(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in weights().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "module.conv1.weight_mask": torch.ones(2)}}, tmp_path / "x")
    _, report = converted(tmp_path / "x")
    assert report["wrappers"] == ["state_dict"]
    assert report["fitted"]["prefix"] == "module."
    assert report["fitted"]["left_over"] == []
    assert report["set_aside"] == ["module.conv1.weight_mask"]


def test_a_deeper_network_is_refused_and_what_lies_beside_one_is_warned_of(tmp_path: Path) -> None:
    """Every tensor of resnet8 is in a file of resnet20, by name and shape."""
    torch.manual_seed(0)
    deeper = build_body("resnet20", classes=3, shape=(1, 12, 12)).state_dict()
    torch.save({"module." + name: value for name, value in deeper.items()}, tmp_path / "x")
    with pytest.raises(
        EngineError, match=r"12 of the file's weights have no place in resnet8 \(layer1\.1\.conv1"
    ) as told:
        converted(tmp_path / "x")
    assert "larger network" in str(told.value)
    assert "Name the architecture" in told.value.remedy
    beside = {"aux.fc.weight": torch.ones(3, 4), "aux.fc.bias": torch.ones(3), "queue_ptr": torch.ones(2, dtype=int)}
    torch.save({**weights(), **beside}, tmp_path / "x")
    _, report = converted(tmp_path / "x")
    assert report["warnings"] == ["1 of the file's weights have no place in resnet8 (aux.fc.weight); they are not used"]
    torch.save(weights(), tmp_path / "x")
    assert "warnings" not in converted(tmp_path / "x")[1]


def test_an_onnx_file_is_opened_once_and_kept_as_it_is(tmp_path: Path) -> None:
    answers = helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["N", 3])
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 12, 12])
    flat = helper.make_node("Flatten", ["images"], ["flat"])
    cut = helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["answers"])
    numbers = [("starts", 0), ("ends", 3), ("axes", 1)]
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in numbers]
    graph = helper.make_graph([flat, cut], "first three pixels", [images], [answers], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "x").write_bytes(made.SerializeToString())
    facts, report = converted(tmp_path / "x", architecture="onnx")
    assert (tmp_path / "made" / "model.onnx").read_bytes() == (tmp_path / "x").read_bytes()
    assert (facts["architecture"], facts["classes"], report["format"]) == ("onnx", ["a", "b", "c"], "onnx")
    (tmp_path / "x").write_bytes(b"no model")
    with pytest.raises(EngineError):
        converted(tmp_path / "x", architecture="onnx")
