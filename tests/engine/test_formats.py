"""Each format that can be uploaded, and what each odd image gets."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.engine.archives import folder, idx, ingested, npz, picture, tarred, zipped
from worker.engine.data.formats import FORMATS
from worker.engine.data.found import class_names
from worker.engine.data.split import split_dataset
from worker.engine.errors import UnusableUpload


def counts(facts: dict[str, Any]) -> dict[str, int]:
    return dict(facts["splits"])


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.zst"])
def test_a_folder_of_images_in_every_archive(tmp_path: Path, name: str) -> None:
    pack = zipped if name.endswith("zip") else tarred
    raw, report, facts = ingested(pack(tmp_path / name, folder(train=3, val=1, test=2)))
    assert raw.classes == ("ants", "bees")
    assert counts(facts) == {"train": 6, "validation": 2, "test": 4}
    assert not any("so val is it" in note for note in report["notes"])
    assert raw.train.images.shape == (6, 3, 12, 12)
    assert raw.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert raw.train.images[4, :, 0, 0].tolist() == [121, 5, 7]
    assert facts["sha256"] == raw.fingerprint
    assert report["format"] == f"imagefolder ({name.removeprefix('x.')})"
    pixels = raw.train.images.double() / 255
    assert facts["mean"] == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-6)
    assert facts["std"][0] == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0)[0].item(), abs=1e-6)
    assert facts["std"][2] == 1.0  # the third channel never changes
    assert {path.name for path in tmp_path.glob("*.stored/*")} == {"data.safetensors", "dataset.json"}


def test_one_wrapping_folder_is_peeled_and_val_stands_in_for_test(tmp_path: Path) -> None:
    raw, report, facts = ingested(zipped(tmp_path / "x.zip", folder(train=2, val=1), prefix="my-data/"))
    assert any("so val is it" in note for note in report["notes"])
    assert counts(facts) == {"train": 4, "test": 2}
    assert raw.validation is None
    _, _, plain = ingested(zipped(tmp_path / "y.zip", {f"top/{n}": d for n, d in folder(a=2, b=2).items()}))
    assert plain["classes"] == ["a", "b"]


def test_classes_without_splits_and_a_wrapped_class_folder(tmp_path: Path) -> None:
    files = {
        f"{name}/{number}.png": picture((shade, 0, number))
        for name, shade in (("b", 1), ("a", 2))
        for number in range(20)
    }
    raw, _, facts = ingested(zipped(tmp_path / "x.zip", files))
    assert (raw.classes, counts(facts)) == (("a", "b"), {"train": 40})
    made = split_dataset(raw, validation=0.1, seed=0)
    assert (len(made.train), len(made.test)) == (32, 4)


def test_its_own_validation_split_is_used_unless_validation_is_0(tmp_path: Path) -> None:
    raw, _, _ = ingested(zipped(tmp_path / "x.zip", folder(train=3, val=1, test=2)))
    with_it = split_dataset(raw, validation=0.3, seed=0)
    assert with_it.validation is not None
    assert (len(with_it.train), len(with_it.validation)) == (6, 2)
    assert split_dataset(raw, validation=0, seed=0).validation is None


def test_what_is_no_image_is_passed_over_with_a_mention(tmp_path: Path) -> None:
    extra = {
        "train/readme.txt": b"hello",
        "train/loose.png": picture(),
        "__MACOSX/train/ants/._0.png": b"x",
        "train/ants/.DS_Store": b"x",
        "train/inner.zip": b"PK",
        "test/unlabelled.png": picture(),
        "docs/a/b.png": picture(),
    }
    _, report, facts = ingested(zipped(tmp_path / "x.zip", {**folder(train=2), **extra}))
    assert counts(facts) == {"train": 4}
    assert report["skipped"]["count"] == 7
    said = "\n".join(report["skipped"]["files"])
    for part in (
        "readme.txt: no image",
        "loose.png: in no class",
        "inner.zip: an archive",
        "hidden",
        "docs/a/b.png: in none",
    ):
        assert part in said


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def odd_images() -> dict[str, bytes]:
    upright = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp = np.linspace(0, 65535, 144).reshape(12, 12).astype(np.uint16)
    frames = [Image.new("RGB", (12, 12), color) for color in ("red", "blue")]
    return {
        "gray.png": picture(77, mode="L"),
        "bilevel.png": picture(1, mode="1"),
        "palette.gif": picture(3, mode="P", kind="GIF"),
        "rgba.png": picture((0, 0, 0, 0), mode="RGBA"),
        "gray_alpha.png": picture((0, 128), mode="LA"),
        "cmyk.jpg": picture((0, 0, 0, 0), mode="CMYK", kind="JPEG"),
        "deep.png": encoded(Image.fromarray(ramp), "PNG"),
        "deep.tif": encoded(Image.fromarray(ramp), "TIFF"),
        "turned.jpg": encoded(upright, "JPEG", exif=exif),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "really_a_png.jpg": picture((1, 2, 3)),
        "web.webp": picture((9, 9, 9), kind="WEBP", lossless=True),
    }


def test_every_odd_image_is_handled(tmp_path: Path) -> None:
    odd = {f"a/{name}": data for name, data in odd_images().items()}
    raw, report, facts = ingested(zipped(tmp_path / "x.zip", {**odd, "b/plain.png": picture()}))
    assert report["corrupt"]["count"] == 0
    center = {name.removeprefix("a/"): raw.train.images[at, :, 5, 5].tolist() for at, name in enumerate(odd)}
    assert facts["shape"] == [3, 12, 12]
    assert center["gray.png"] == [77, 77, 77]
    assert center["bilevel.png"] == [255, 255, 255]
    assert center["rgba.png"] == [255, 255, 255]
    assert center["gray_alpha.png"] == [127, 127, 127]
    assert center["cmyk.jpg"] == [255, 255, 255]
    assert center["deep.png"] == center["deep.tif"] == [116, 116, 116]
    assert center["turned.jpg"][0] > 250
    assert center["animated.gif"][0] > 250
    assert center["really_a_png.jpg"] == [1, 2, 3]
    assert center["web.webp"] == [9, 9, 9]
    assert report["modes"]["CMYK"] == 1
    assert {"size": "10x20", "count": 1} in report["sizes"]  # as it is shown, not as it is stored
    said = "\n".join(report["notes"])
    for part in (
        "2 images have transparency",
        "2 images have 16 bits",
        "1 images are animated",
        "1 images were turned upright",
        "1 images are of another",
    ):
        assert part in said


def test_a_set_of_gray_images_keeps_one_channel(tmp_path: Path) -> None:
    files = {f"{name}/{n}.png": picture(n, mode="L", size=(9, 7)) for name in "ab" for n in range(3)}
    _, _, facts = ingested(zipped(tmp_path / "x.zip", files))
    assert facts["shape"] == [1, 7, 9]


def test_broken_images_are_named_and_left_out(tmp_path: Path) -> None:
    good = {f"{name}/{n}.png": picture((n, 1, 2)) for name in ("a", "b") for n in range(40)}
    whole = picture((1, 2, 3), kind="JPEG", size=(64, 64), quality=95)
    bad = {
        "a/empty.png": b"",
        "a/text.jpg": b"this is no image",
        "a/cut.jpg": whole[: len(whole) // 2],
        "b/cut.png": picture(size=(64, 64))[:60],
        "b/giant.png": picture(0, mode="1", size=(10_000, 6_000)),
        "b/bomb.png": picture(0, mode="1", size=(20_000, 10_000)),
        "b/program.eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    }
    _, report, facts = ingested(zipped(tmp_path / "x.zip", {**good, **bad}))
    assert counts(facts) == {"train": 80}
    assert report["corrupt"]["count"] == len(bad)
    problems = {item["file"]: item["problem"] for item in report["corrupt"]["files"]}
    assert set(problems) == set(bad)
    assert problems["a/empty.png"] == "the file is empty"
    assert problems["a/text.jpg"] == "it is no image of a known format"
    assert "truncated" in problems["a/cut.jpg"].lower()
    for name in ("b/giant.png", "b/bomb.png"):
        assert problems[name] == "it has more than 50,000,000 pixels"


def test_too_many_broken_images_reject_the_set_and_name_them(tmp_path: Path) -> None:
    files = {**folder(train=4), **{f"train/ants/broken{n}.png": b"x" for n in range(60)}}
    report: dict[str, Any] = {}
    with pytest.raises(UnusableUpload, match=r"60 of 68 images cannot be read \(88%, and 10% are the limit\)"):
        ingested(zipped(tmp_path / "x.zip", files), report=report)
    assert (report["corrupt"]["count"], len(report["corrupt"]["files"])) == (60, 50)


def test_varying_sizes_are_brought_to_one(tmp_path: Path) -> None:
    files = {f"{name}/{n}.png": picture((n, 0, 0), size=(30 + 10 * n, 20 + n)) for name in "ab" for n in range(4)}
    upload = zipped(tmp_path / "x.zip", files)
    raw, report, facts = ingested(upload)
    assert facts["shape"] == [3, 21, 21]  # the median of 20, 21, 22, 23 twice
    assert "sizes vary" in report["stored"]["resized"]
    assert raw.train.images[3].eq(torch.tensor([3, 0, 0]).view(3, 1, 1)).all()
    other = tmp_path / "y.zip"
    other.write_bytes(upload.read_bytes())
    assert ingested(other, image_size=16)[2]["shape"] == [3, 16, 16]


def test_input_size_resizes_what_is_stored(tmp_path: Path) -> None:
    files = {f"{name}/{n}.png": picture((60 * n, 0, 0), size=(40, 20)) for name in "ab" for n in range(4)}
    raw, _, facts = ingested(zipped(tmp_path / "x.zip", files))
    assert facts["shape"] == [3, 20, 40]
    small = raw.resized(8)
    assert small.train.images.shape == (8, 3, 8, 8)
    assert small.train.images[:, 0, 4, 4].tolist() == [0, 60, 120, 180] * 2
    assert raw.resized(None) is raw


def test_idx(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 8, 6)), np.arange(30) % 3
    files = {
        "raw/train-images-idx3-ubyte.gz": gzip.compress(idx(images)),
        "raw/train-labels-idx1-ubyte": idx(labels),
        "raw/t10k-images.idx3-ubyte": idx(images[:6]),
        "raw/t10k-labels.idx1-ubyte": idx(labels[:6]),
    }
    raw, _, facts = ingested(zipped(tmp_path / "x.zip", files))
    assert (raw.classes, counts(facts), facts["shape"]) == (("0", "1", "2"), {"train": 30, "test": 6}, [1, 8, 6])
    assert torch.equal(raw.train.images[:, 0], torch.from_numpy(images).to(torch.uint8))
    files["raw/train-labels-idx1-ubyte"] = idx(labels)[:-1]
    with pytest.raises(UnusableUpload, match="says 30, and holds 29 bytes"):
        ingested(zipped(tmp_path / "y.zip", files))


@pytest.mark.parametrize("names", [("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")])
def test_npz(tmp_path: Path, names: tuple[str, str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    labels = (np.arange(20) % 2)[:, None]
    arrays = {names[0]: np.asfortranarray(images), names[1]: labels, "class_names": np.array(["no", "yes"])}
    raw, _, facts = ingested(npz(tmp_path / "x.npz", **arrays))
    assert (raw.classes, facts["shape"]) == (("no", "yes"), [3, 8, 8])
    assert torch.equal(raw.train.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert ingested(npz(tmp_path / "y.npz", **arrays), image_size=16)[2]["shape"] == [3, 16, 16]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((4, 8, 8), np.float32), "labels": np.arange(4)}, "holds float32, not uint8"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(3)}, "has 4 images, and labels of the shape"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4) - 1}, "labels reach from -1 to 2"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array([{}] * 4)}, "holds pickled objects"),
        ({"pictures": np.zeros((4, 8, 8), np.uint8)}, "its arrays are called pictures"),
        ({"images": np.zeros((4, 8), np.uint8), "labels": np.arange(4)}, "has the shape"),
        ({"images": np.zeros((4, 8, 8, 5), np.uint8), "labels": np.arange(4)}, "neither 1, 3 nor 4 channels"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableUpload, match=said):
        ingested(npz(tmp_path / "x.npz", **arrays))


def parquet(labels: list[Any], names: list[str] | None = None) -> bytes:
    cells = [{"bytes": picture((n, 0, 0)), "path": f"{n}.png"} for n in range(len(labels))]
    table = pa.table({"image": cells, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(parquet([0, 1, 1, 0], ["cat", "dog"]))
    raw, report, _ = ingested(tmp_path / "x.parquet")
    assert (raw.classes, raw.train.labels.tolist()) == (("cat", "dog"), [0, 1, 1, 0])
    assert raw.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert report["format"] == "parquet"
    files = {
        "data/train-00000-of-00002.parquet": parquet([0, 1], ["cat", "dog"]),
        "data/train-00001-of-00002.parquet": parquet([1], ["cat", "dog"]),
        "data/test-00000-of-00001.parquet": parquet([0, 1], ["cat", "dog"]),
        "README.md": b"# a data set",
    }
    assert counts(ingested(zipped(tmp_path / "y.zip", files))[2]) == {"train": 3, "test": 2}


def test_parquet_with_labels_of_text_and_without_images(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(parquet(["b", "a", "b"]))
    raw, _, _ = ingested(tmp_path / "x.parquet")
    assert (raw.classes, raw.train.labels.tolist()) == (("a", "b"), [1, 0, 1])
    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), out)
    (tmp_path / "y.parquet").write_bytes(out.getvalue())
    with pytest.raises(UnusableUpload, match="has the columns text, label"):
        ingested(tmp_path / "y.parquet")
    (tmp_path / "z.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(UnusableUpload, match="cannot be read"):
        ingested(tmp_path / "z.parquet")


@pytest.mark.parametrize("odd", ["²", "--5", "-", "٣", "5-"])
def test_labels_that_only_look_like_numbers_are_names(tmp_path: Path, odd: str) -> None:
    (tmp_path / "x.parquet").write_bytes(parquet(["10", "9", odd]))
    assert ingested(tmp_path / "x.parquet")[0].classes == tuple(sorted(["10", "9", odd]))
    pictures = {f"{n}.png": picture((n, 0, 0)) for n in range(3)}
    table = f"path,label\n0.png,10\n1.png,9\n2.png,{odd}\n"
    raw, _, _ = ingested(zipped(tmp_path / "x.zip", {**pictures, "labels.csv": table.encode()}))
    assert raw.classes == tuple(sorted(["10", "9", odd]))


def test_labels_of_equal_numbers_have_an_order() -> None:
    assert class_names(["1", "-2", "01", "10", "001"]) == ("-2", "001", "01", "1", "10")


def test_a_csv_of_paths_and_labels(tmp_path: Path) -> None:
    pictures = {f"d/img/{n}.png": picture((n, 0, 0)) for n in range(5)}
    lines = ("img/0.png,10,train", "./img/1.png,9,train", "img\\2.png,10,test", "img/9.png,9,train", "img/3.png,9,test")
    table = "\n".join(("filename,label,split", *lines))
    raw, report, facts = ingested(zipped(tmp_path / "x.zip", {**pictures, "d/labels.csv": table.encode()}))
    assert (raw.classes, counts(facts)) == (("9", "10"), {"train": 2, "test": 2})
    assert raw.train.labels.tolist() == [1, 0]
    assert report["skipped"]["files"] == ["img/9.png: named in line 5 of d/labels.csv, and not in the archive"]
    assert report["notes"] == ["1 image files are not named in d/labels.csv and were left out"]
    wrong = "path,label\nimg/0.png,\n"
    with pytest.raises(UnusableUpload, match=r"labels\.csv, line 2: label ''"):
        ingested(zipped(tmp_path / "y.zip", {**pictures, "d/labels.csv": wrong.encode()}))
    outside = "path,label\n../../etc/passwd,a\n"
    with pytest.raises(UnusableUpload, match=r"no path in d/labels\.csv leads to a file"):
        ingested(zipped(tmp_path / "z.zip", {**pictures, "d/labels.csv": outside.encode()}))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train/a/0.png": picture()}, "one class"),
        ({"0.png": picture()}, "no image lies in a class folder"),
        ({"a.txt": b"x"}, "none of its 1 files is an image"),
        ({"val/a/0.png": picture(), "test/b/0.png": picture((1, 1, 1))}, "training"),
        ({**folder(train=1), "test/wasps/0.png": picture()}, "1 classes have no training image: wasps"),
        ({"a/0.png": b"x", "b/0.png": b"y"}, "2 of 2 images cannot be read"),
    ],
)
def test_a_set_that_cannot_train_is_rejected_with_the_reason(
    tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    with pytest.raises(UnusableUpload, match=said) as caught:
        ingested(zipped(tmp_path / "x.zip", files))
    assert caught.value.remedy


def test_the_same_image_in_two_splits_is_said(tmp_path: Path) -> None:
    files = folder(train=2, test=1)
    files["test/ants/again.png"] = files["train/ants/0.png"]
    _, report, _ = ingested(zipped(tmp_path / "x.zip", files))
    assert "1 image files lie in more than one split, so accuracy there is too good" in report["notes"]


def test_a_tar_written_by_the_command_line_tool_is_read(tmp_path: Path) -> None:
    for name, data in folder(train=2).items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(data)
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "d", arcname=".")
    assert counts(ingested(tmp_path / "x.tgz")[2]) == {"train": 4}


def test_every_format_has_been_tried_here() -> None:
    assert set(FORMATS) == {"parquet", "npz", "idx", "csv", "imagefolder"}
