"""A file of logits as a teacher: what is read of it, what is refused, and that it teaches what its network would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from tests.engine.conftest import run, teacher
from worker.engine import recorded
from worker.engine.data import Dataset, RawDataset
from worker.engine.data.split import split_dataset
from worker.engine.distill import distill
from worker.engine.errors import EngineError, MethodRefused, TeacherMismatch, WeightsRefused
from worker.engine.evaluate import judge
from worker.engine.method import Batch
from worker.engine.methods import METHODS
from worker.engine.recorded import RecordedTeacher

CLASSES = tuple("abc")
ROWS = np.random.default_rng(4).normal(0, 3, (23, 3)).astype(np.float32)
TEST = np.random.default_rng(5).normal(0, 3, (7, 3)).astype(np.float32)
Rows = np.ndarray[Any, np.dtype[Any]]


def softmax(rows: Rows) -> Rows:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


KINDS: dict[str, Callable[[Rows], Rows]] = {
    "logits": lambda rows: rows,
    "probabilities": softmax,
    "log-probabilities": lambda rows: np.log(softmax(rows)),
}


def npy(path: Path, rows: Rows, **_: Rows) -> None:
    with path.open("wb") as file:
        np.save(file, rows)


def npz(path: Path, rows: Rows, **others: Rows) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, train=rows, **others)


def safetensors(path: Path, rows: Rows, **others: Rows) -> None:
    save_file({"logits": np.ascontiguousarray(rows), **others}, path)


def csv(path: Path, rows: Rows, **others: Rows) -> None:
    lines = [",".join(map(repr, map(float, row))) for row in rows]
    if "id" in others:
        lines = ["id,x,y,z", *(f"{place},{line}" for place, line in zip(others["id"], lines, strict=True))]
    path.write_text("\n".join(lines) + "\n")


def parquet(path: Path, rows: Rows, **others: Rows) -> None:
    columns = {f"c{index}": rows[:, index] for index in range(rows.shape[1])}
    pq.write_table(pa.table({**{name: others[name] for name in ("id",) if name in others}, **columns}), path)


def parquet_lists(path: Path, rows: Rows, **others: Rows) -> None:
    pq.write_table(pa.table({"logits": list(rows), **{name: others[name] for name in ("id",) if name in others}}), path)


FORMATS = [npy, npz, safetensors, csv, parquet, parquet_lists]


def kept(folder: Path, classes: tuple[str, ...] = CLASSES) -> tuple[dict[str, Any], dict[str, Any], dict[str, Rows]]:
    report: dict[str, Any] = {}
    facts = recorded.keep(folder / "x", folder / "made", scratch=folder / "scratch", classes=classes, report=report)
    tensors = recorded.stored.load_file(folder / "made" / "model.safetensors")
    return facts, report, {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_and_kind_is_kept_as_the_same_logits(tmp_path: Path, write: Any, kind: str) -> None:
    write(tmp_path / "x", KINDS[kind](ROWS))
    facts, report, rows = kept(tmp_path)
    assert (report["kind"], report["rows"]) == (kind, {"train": 23}) == (facts["kind"], facts["rows"])
    assert facts == json.loads((tmp_path / "made" / "model.json").read_text())
    assert np.allclose(softmax(rows["train"]), softmax(ROWS), atol=1e-6)
    assert np.allclose(rows["train"], ROWS) == (kind == "logits")


@pytest.mark.parametrize("write", [npz, safetensors, csv, parquet, parquet_lists])
def test_rows_with_ids_are_put_into_their_places(tmp_path: Path, write: Any) -> None:
    order = np.random.default_rng(1).permutation(23)
    write(tmp_path / "x", ROWS[order], id=order)
    assert np.array_equal(kept(tmp_path)[2]["train"], ROWS)


@pytest.mark.parametrize("write", [npz, safetensors])
def test_rows_of_test_are_kept_beside_those_of_train(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "x", ROWS.astype(np.float64), test=TEST.astype(np.float64))
    _, report, rows = kept(tmp_path)
    assert report["rows"] == {"train": 23, "test": 7}
    assert np.array_equal(rows["test"], TEST)


def spoilt(place: tuple[int, int], value: float, rows: Rows = ROWS) -> Rows:
    changed = rows.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("write", "rows", "others", "said"),
    [
        (npy, spoilt((17, 1), np.nan), {}, "row 17 of train holds NaN or infinity"),
        (npy, spoilt((3, 1), 1e300, ROWS.astype(np.float64)), {}, "row 3 of train holds NaN or infinity"),
        (npy, spoilt((9, 0), 2.0, softmax(ROWS)), {}, "row 9 of train is no probabilities, as 22 of the 23 rows are"),
        (npy, ROWS[:, :2], {}, "have 2 columns, where 3 classes were named"),
        (npy, ROWS[0], {}, r"are array \[3\], and none is known"),
        (npy, ROWS.astype(np.int64), {}, r"have the shape \[23, 3\] of int64"),
        (npy, np.array([[{}]], dtype=object), {}, "pickled objects, which are never opened"),
        (npz, ROWS, {"test": softmax(TEST)}, "logits for train and probabilities for test"),
        (npz, ROWS, {"id": np.arange(22)}, "do not name each of the places 0 to 22 once"),
        (npz, ROWS, {"id": np.zeros(23, dtype=np.int64)}, "do not name each of the places 0 to 22 once"),
        (npz, ROWS, {"id": np.arange(23) / 2}, "the ids have the shape"),
        (parquet, ROWS, {"id": np.array(["a.png"] * 23)}, "the ids have the shape"),
    ],
)
def test_what_could_not_teach_is_refused_with_its_place(
    tmp_path: Path, write: Any, rows: Rows, others: dict[str, Rows], said: str
) -> None:
    write(tmp_path / "x", rows, **others)
    with pytest.raises(EngineError, match=said) as caught:
        kept(tmp_path)
    assert caught.value.remedy
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither npy, npz"),
        (b"\x80\x04pickle", "neither npy, npz"),
        (b"PAR1 and no more", "Parquet file cannot be read"),
        (b"\x93NUMPY\x01\x00", "no array that numpy wrote"),
        (b"PK\x03\x04" + bytes(60), "damaged|no file"),
        (b"\x10\0\0\0\0\0\0\0{" + bytes(20), "damaged"),
        (b"1,2,3\n4,5\n", "CSV cannot be read"),
        (b"a,b,c\n1,2,x\n", "column c holds string"),
        (b"a,b,c\n", "no rows"),
        (b"a,b,c\n1,,3\n", "column b has empty cells"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(EngineError, match=said):
        kept(tmp_path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"logits": [["a", "b", "c"]] * 2}, "the column logits holds list<"),
        ({"logits": [[[0.1, 0.2]]] * 2}, "the column logits holds list<"),
        ({"logits": [[], []]}, "the column logits holds list<"),
        ({"logits": pa.array([[], []], pa.list_(pa.float32()))}, "the lists of logits are empty"),
        ({"logits": [[0.5, 1.0, 2.0]] * 4096 + [[0.5, 1.0]]}, "the lists of outputs are not all of one length"),
        ({"id": [0, 1]}, "rows have an id or a path, and no outputs"),
        ({"id": [0, 1], "path": ["a.png", "b.png"]}, "rows have an id or a path, and no outputs"),
    ],
)
def test_a_parquet_file_without_a_number_for_each_class_is_refused(
    tmp_path: Path, columns: dict[str, Any], said: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x")
    with pytest.raises(WeightsRefused, match=said):
        kept(tmp_path)


def test_a_csv_of_ids_and_paths_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("id,path\n0,a.png\n1,b.png\n")
    with pytest.raises(WeightsRefused, match="rows have an id or a path, and no outputs"):
        kept(tmp_path)


@pytest.fixture
def table(raw: RawDataset, digits: Dataset) -> torch.Tensor:
    """What a good network says of every image of the stored training split."""
    images = raw.train.images.float() / 255
    batch = Batch(raw.train.labels, torch.arange(len(raw.train)), 1, 0)
    return teacher(digits).outputs(images, batch).logits


def test_each_sample_gets_its_own_row_whatever_was_drawn_from_the_split(digits: Dataset, raw: RawDataset) -> None:
    rows = torch.arange(len(raw.train)).float()[:, None].expand(-1, 10).contiguous()
    source = RecordedTeacher(rows, digits)
    some = torch.tensor([3, 0, 200])
    batch = Batch(digits.train.labels[some], some, 1, 0)
    places = source.outputs(digits.train.images[some].float(), batch).logits[:, 0].long()
    assert torch.equal(raw.train.images[places], digits.train.images[some])
    assert source.test is not None
    assert torch.equal(raw.train.images[source.test[:, 0].long()], digits.test.images)


def test_a_file_teaches_what_its_network_would(digits: Dataset, table: torch.Tensor) -> None:
    live = run(digits, method=METHODS["kd"](), taught_by=teacher(digits), augmentation="none")
    told = run(digits, method=METHODS["kd"](), taught_by=RecordedTeacher(table, digits), augmentation="none")
    for each in (live, told):
        list(distill(each))
    assert not told.warnings
    assert told.canaries == live.canaries
    for ours, theirs in zip(told.history, live.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_what_a_file_cannot_do_is_refused_or_said(digits: Dataset, table: torch.Tensor) -> None:
    source = RecordedTeacher(table, digits)
    with pytest.raises(MethodRefused, match="a file or an ensemble"):
        run(digits, method=METHODS["at"](), taught_by=source)
    with pytest.raises(MethodRefused, match="mixed images") as caught:
        run(digits, method=METHODS["patient"](), taught_by=source)
    assert "mixup" in caught.value.remedy
    run(digits, method=METHODS["patient"](mixup=False), taught_by=source, augmentation="none")
    (said,) = run(digits, method=METHODS["kd"](), taught_by=source, augmentation="crop").warnings
    assert "the student sees crop of them" in said
    with pytest.raises(WeightsRefused, match="399 rows, and the data set 400 training images"):
        RecordedTeacher(table[1:], digits)


def columns_moved(table: torch.Tensor) -> torch.Tensor:
    return table.roll(3, dims=1)


def rows_shuffled(table: torch.Tensor) -> torch.Tensor:
    return table[torch.randperm(len(table), generator=torch.Generator().manual_seed(2))]


def of_something_else(table: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.zeros(len(table), dtype=torch.int64), 10).float()


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (columns_moved, "Its columns are in another order"),
        (rows_shuffled, "its rows are probably in another order"),
        (of_something_else, "Check that it was computed on this data set"),
    ],
)
def test_a_misordered_file_is_noticed_with_its_likely_cause(
    digits: Dataset, table: torch.Tensor, spoil: Any, cause: str
) -> None:
    source = RecordedTeacher(spoil(table), digits)
    with pytest.raises(TeacherMismatch, match="where guessing gives") as caught:
        list(distill(run(digits, method=METHODS["kd"](), taught_by=source, augmentation="none")))
    assert cause in caught.value.remedy


def test_it_is_opened_from_its_staged_form_in_the_order_of_the_datas_classes(
    tmp_path: Path, digits: Dataset, raw: RawDataset, table: torch.Tensor
) -> None:
    order = list(reversed(range(10)))
    npy(tmp_path / "x", table[:, order].numpy())
    kept(tmp_path, tuple(raw.classes[index] for index in order))
    source, said = recorded.load(tmp_path / "made", "model", digits)
    assert torch.equal(source.rows, table)
    assert "were put into the order of the data's classes" in said
    assert source.fingerprint() != RecordedTeacher(table + 1, digits).fingerprint()
    kept(tmp_path, tuple("qwertyuiop"))
    assert "taken in order" in recorded.load(tmp_path / "made", "model", digits)[1]
    npy(tmp_path / "x", table[:, :7].numpy())
    kept(tmp_path, tuple("abcdefg"))
    with pytest.raises(WeightsRefused, match="tells 7 classes apart, where the data has 10"):
        recorded.load(tmp_path / "made", "model", digits)


def test_what_it_says_of_the_test_split_is_judged_as_a_network_is(raw: RawDataset, table: torch.Tensor) -> None:
    """Drawn from train: its rows are known. Brought along: only where the file has rows for it."""
    whole = RawDataset(raw.name, raw.classes, raw.mean, raw.std, raw.train, raw.train.take(torch.arange(50)))
    own = split_dataset(whole, validation=0.2, seed=1)
    assert RecordedTeacher(table, own).test is None
    found = RecordedTeacher(table, own, test=table[:50])
    assert found.test is not None
    assert judge(torch.split(found.test, 20), own.test.labels).top1 > 0.8
    with pytest.raises(WeightsRefused, match="49 rows, and the data set 50 test images"):
        RecordedTeacher(table, own, test=table[:49])
