"""A network that can only be asked: an ONNX file of any framework, computed by onnxruntime on the CPU.

What it answers may be logits, probabilities or their logarithms; a look at some answers tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from worker.engine.errors import WeightsRefused
from worker.engine.memory import out_of_memory

Kind = Literal["logits", "probabilities", "log-probabilities"]
MAX_BYTES = 2 * 2**30
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_TOLERANCE = 1e-3
_SMALLEST = 1e-12
"""A probability below this is taken for it, so that its logarithm is finite."""
_EXPORT = "Export it as one file with one image input [N, C, H, W] and one output [N, classes]."


def kind_of(answers: Tensor) -> Kind:
    """What rows [N, classes] of answers are: they sum to one, or their exponentials do, or neither."""
    return next((kind for kind, like in sums_to_one(answers).items() if bool(like.all())), "logits")


def sums_to_one(answers: Tensor) -> dict[Kind, Tensor]:
    """Of each kind but logits, which rows [N, classes] could be of it: bool [N]."""
    rows = answers.double()
    return {
        "probabilities": (rows >= -_TOLERANCE).all(dim=1) & _one(rows.sum(dim=1)),
        "log-probabilities": (rows <= _TOLERANCE).all(dim=1) & _one(rows.exp().sum(dim=1)),
    }


def to_logits(answers: Tensor, kind: Kind) -> Tensor:
    """Logits whose softmax the answers describe; logarithms of probabilities are such already."""
    return answers.clamp_min(_SMALLEST).log() if kind == "probabilities" else answers


def _one(sums: Tensor) -> Tensor:
    return (sums - 1).abs() <= _TOLERANCE


class BlackBox(nn.Module):
    """An ONNX file as the body of a Network. It has no weights to train and no feature points.

    Raises WeightsRefused for a file that keeps data elsewhere, holds operators of others, or does not take images.
    """

    digest: Tensor

    def __init__(self, path: Path, *, classes: int) -> None:
        super().__init__()
        content = _checked(path)
        self.kind: Kind = "logits"
        self.bytes = len(content)
        self.count, self.classes = _count(content), classes
        self.register_buffer("digest", torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8))
        self._session = _open(content)
        (self._input,) = self._session.get_inputs()
        self._type = _TYPES[self._input.type]
        shape = self._input.shape
        self._channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        self._batch = shape[0] if isinstance(shape[0], int) else None
        self._output = _output(self._session, classes)

    def recognise(self, images: Tensor) -> Kind:
        """Look at the answers to ``images``, as the network takes them, and remember what they are."""
        self.kind = kind_of(self._answers(images))
        return self.kind

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes], without gradient."""
        return to_logits(self._answers(images), self.kind)

    def _answers(self, images: Tensor) -> Tensor:
        maps = images.detach().float().cpu()
        if self._channels_last:
            maps = maps.permute(0, 2, 3, 1)
        size = self._batch or max(len(maps), 1)
        answers = [self._run(part, size) for part in torch.split(maps, size)]
        return torch.cat(answers).to(images.device)

    def _run(self, part: Tensor, size: int) -> Tensor:
        """A batch of a file that takes batches of one size only is filled up with its last image."""
        filled = torch.cat([part, part[-1:].expand(size - len(part), -1, -1, -1)]) if len(part) < size else part
        values = np.ascontiguousarray(filled.numpy().astype(self._type))
        try:
            (answer,) = self._session.run([self._output], {self._input.name: values})
        except Exception as error:  # onnxruntime raises classes of its own, without a common root
            given = "x".join(map(str, values.shape))
            raise WeightsRefused(f"the ONNX file cannot take images of {given}: {_first_line(error)}.") from error
        rows = torch.from_numpy(np.asarray(answer, dtype=np.float32)).flatten(1)
        if rows.shape[1] != self.classes:
            message = f"the ONNX file tells {rows.shape[1]} classes apart, where {self.classes} are wanted."
            raise WeightsRefused(message, remedy="A black box cannot be fine-tuned; choose data of its classes.")
        return rows[: len(part)]


def _checked(path: Path) -> bytes:
    """The file's bytes, once it is known to need nothing but them."""
    import onnx  # noqa: PLC0415  # a second of start-up, for those who need it

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise WeightsRefused(f"the ONNX file has {size:,} bytes; at most {MAX_BYTES:,} are read.", remedy=_EXPORT)
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own classes
        if out_of_memory(error):
            raise
        raise WeightsRefused(f"the file is no ONNX model: {_first_line(error)}.", remedy=_EXPORT) from error
    foreign = {entry.domain for entry in model.opset_import} - _DOMAINS
    if foreign or not model.graph.output:
        what = f"operators of {', '.join(sorted(foreign))}" if foreign else "no output"
        raise WeightsRefused(f"the ONNX file has {what}.", remedy="Export it with standard operators.")
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            message = f"the ONNX file keeps {tensor.name or 'a constant'} in another file, and only it itself is read."
            raise WeightsRefused(message, remedy=_EXPORT)
    return content


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor in a protobuf message, however deep: weights, constants, those of subgraphs and functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.is_repeated else (value,):
            if field.message_type.name == "TensorProto":
                yield item
            else:
                yield from _tensors(item)


def _count(content: bytes) -> int:
    import onnx  # noqa: PLC0415

    initializers = onnx.load_model_from_string(content).graph.initializer
    return sum(int(np.prod(tensor.dims)) for tensor in initializers)


def _open(content: bytes) -> Any:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes
        if out_of_memory(error):
            raise
        raise WeightsRefused(f"onnxruntime cannot open the file: {_first_line(error)}.", remedy=_EXPORT) from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
        given = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs) or "none"
        raise WeightsRefused(f"the ONNX file does not take one batch of images: {given}.", remedy=_EXPORT)
    return session


def _output(session: Any, classes: int) -> str:
    """The name of the output that has a column for each class."""
    outputs = session.get_outputs()
    fitting = [each for each in outputs if len(each.shape) >= 2 and each.shape[1] == classes]
    return str((fitting or outputs)[0].name)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
