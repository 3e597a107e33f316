"""Rows of logits that say by a path which image they are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from tests.engine.archives import folder, ingested, zipped
from tests.engine.test_recorded import kept
from worker.engine import recorded
from worker.engine.data import Dataset
from worker.engine.data.split import split_dataset
from worker.engine.errors import WeightsRefused
from worker.engine.recorded.names import matched, unpack

CLASSES = ("ants", "bees")
PATHS = [f"train/{name}/{number}.png" for name in CLASSES for number in range(20)]


@pytest.fixture
def uploaded(tmp_path: Path) -> Dataset:
    """A folder of images that wraps its splits."""
    stored, _, _ = ingested(zipped(tmp_path / "x.zip", folder(train=20, test=3), prefix="insects/"))
    return split_dataset(stored, validation=0.2, seed=0)


def rows_of(paths: Sequence[str]) -> np.ndarray:  # type: ignore[type-arg]
    """What tells whose row it is: the number in the path, and its class."""
    numbers = [int(path.rpartition("/")[2].removesuffix(".png")) for path in paths]
    return np.array([[number, "bees" in path] for number, path in zip(numbers, paths, strict=True)], np.float32)


def write(tmp_path: Path, paths: Sequence[str], *, column: str = "path", kind: str = "parquet") -> None:
    rows = rows_of(paths)
    table = pa.table({"ants": rows[:, 0], column: list(paths), "bees": rows[:, 1]})
    if kind == "csv":
        pyarrow.csv.write_csv(table, tmp_path / "x")
    else:
        pq.write_table(table, tmp_path / "x")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["path", "File_Name"])
@pytest.mark.parametrize("prefix", ["insects/", "", "./insects/"])
def test_rows_in_any_order_find_their_images(
    tmp_path: Path, uploaded: Dataset, kind: str, column: str, prefix: str
) -> None:
    """Folders at the top may be left out; rows of the test split are left over."""
    paths = [f"{prefix}{path}" for path in (*reversed(PATHS), "test/ants/0.png", "test/bees/1.png")]
    write(tmp_path, paths, column=column, kind=kind)
    facts, report, _ = kept(tmp_path, CLASSES)
    assert facts["named"]
    assert "rows have names, such as" in report["named"]
    source, said = recorded.load(tmp_path / "made", "model", uploaded)
    assert torch.equal(source.rows, torch.from_numpy(rows_of(PATHS)))
    assert said.endswith("matched with the images by name, and 2 rows were of no training image")
    shown = uploaded.train.images[:, 0, 0, 0].float()  # the shade is the number, and 10 or 120
    own = source.rows[source.places]
    assert torch.equal(own[:, 0] + torch.where(own[:, 1] > 0, 120, 10), shown)


def test_images_without_a_row_and_rows_without_an_image_are_named(tmp_path: Path, uploaded: Dataset) -> None:
    write(tmp_path, [*PATHS[:33], *(f"train/wasps/{number}.png" for number in range(8))])
    kept(tmp_path, CLASSES)
    with pytest.raises(WeightsRefused) as caught:
        recorded.load(tmp_path / "made", "model", uploaded)
    assert "7 of the 40 training images have no row: train/bees/13.png, train/bees/14.png, " in str(caught.value)
    assert "8 rows name no training image: train/wasps/0.png" in str(caught.value)
    assert "path" in caught.value.remedy


def test_names_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [*PATHS, PATHS[3], f"./{PATHS[4]}"])
    with pytest.raises(WeightsRefused, match=r"2 names are there more than once: train/ants/3\.png, train/ants/4\.png"):
        kept(tmp_path, CLASSES)


def test_a_data_set_without_names_asks_for_ids(tmp_path: Path, digits: Dataset) -> None:
    assert digits.origin.names is None
    with pytest.raises(WeightsRefused, match="the data set knows none of its images'") as caught:
        matched(PATHS, unpack(digits.origin.names))
    assert "place" in caught.value.remedy


def test_folders_are_left_out_only_where_names_stay_apart() -> None:
    images = ["a/x/1.png", "b/x/1.png"]
    assert matched(["b/x/1.png", "a/x/1.png"], images)[0].tolist() == [1, 0]
    with pytest.raises(WeightsRefused, match="2 of the 2 training images have no row"):
        matched(["x/1.png", "x/2.png"], images)
    with pytest.raises(WeightsRefused, match="several images of the data set have one name"):
        matched(["a.png"], ["a.png", "a.png"])
