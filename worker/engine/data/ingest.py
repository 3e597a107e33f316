"""From an upload to the staged form, with a report that a person can act on.

Images are looked at twice: first their headers, which decide channels and size for all; then their pixels. Neither
pass keeps more than one image in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from worker.engine.data import arrays, survey
from worker.engine.data.decode import BadImage, pixels
from worker.engine.data.files import shown
from worker.engine.data.formats import FORMATS
from worker.engine.data.found import Found, Split
from worker.engine.data.store import SPLITS, Writer
from worker.engine.data.store import Split as StoredSplit
from worker.engine.data.unpack import unpack
from worker.engine.errors import UnusableUpload

LARGEST_DEFAULT = 224
"""Side at which images of varying sizes are kept, unless theirs are smaller or a size was asked for."""

_STORED: dict[Split, StoredSplit] = {"train": "train", "val": "validation", "test": "test"}

Opener = Callable[[tuple[int, int, int]], Writer]


class Ingest:
    """One upload on its way. ``report`` grows along, so that it says much about an upload that is refused, too."""

    def __init__(
        self,
        upload: Path,
        *,
        scratch: Path,
        image_size: int | None,
        report: dict[str, Any],
        alive: Callable[[], None],
    ) -> None:
        self.upload = upload
        self.scratch = scratch
        self.image_size = image_size
        self.alive = alive
        self.report = report
        self.notes: list[str] = report.setdefault("notes", [])

    def run(self, target: Path, *, name: str) -> dict[str, Any]:
        """Write the staged form into ``target``; what jobs must know of it. Raises UnusableUpload."""
        found = self._find()
        write = self._write_arrays if found.pixels else self._write_images
        with ExitStack() as stack:
            writer = write(found, lambda shape: stack.enter_context(Writer(target, shape)))
            self._count(writer, found)
            described = writer.close(name=name, classes=found.classes)
        self.report["stored"] = {"shape": list(writer.shape), **self.report.get("stored", {})}
        return {
            **{key: described[key] for key in ("classes", "mean", "std", "sha256")},
            "shape": list(writer.shape),
            "splits": self.report["images"],
            "smallest_class": int(np.bincount(writer.labels("train")).min()),
        }

    def _find(self) -> Found:
        files = unpack(self.upload, self.scratch)
        self.alive()
        format_name = next((known for known, format_ in FORMATS.items() if format_.matches(files)), None)
        if format_name is None:
            raise UnusableUpload(
                f"none of its {len(files.members):,} files is an image, an IDX, a Parquet or a numpy file.",
                remedy="Pack a folder of images, one folder for each class.",
            )
        self.report["format"] = format_name if format_name == files.kind else f"{format_name} ({files.kind})"
        found = FORMATS[format_name].read(files)
        self.alive()
        skipped = [*files.passed_over, *found.skipped]
        self.report["skipped"] = {"count": len(skipped), "files": skipped[: survey.LISTED]}
        self.notes += found.notes
        found.classes = tuple(shown(label) for label in found.classes)
        if len(found.classes) < 2:
            raise UnusableUpload(
                f"it has one class ({', '.join(found.classes)}).", remedy="Give two at least, each its own folder."
            )
        present = {image.split for image in found.images} | set(found.pixels)
        if "train" not in present:
            raise UnusableUpload("it has no training images.", remedy="Put them into a folder or file called train.")
        if "val" in present and "test" not in present:
            self.notes.append("there is no test split, so val is it; images to validate on are drawn from train")
        return found

    def _write_arrays(self, found: Found, opened: Opener) -> Writer:
        shapes = {split: arrays.channels_first(piece, slice(0, 1)).shape[1:] for split, piece in found.pixels.items()}
        if len(set(shapes.values())) != 1:
            raise UnusableUpload(f"the splits hold images of {shapes}.", remedy="Store all images at one size.")
        side = self.image_size
        channels, height, width = shapes["train"]
        writer = opened((channels, side or height, side or width))
        for split, piece in found.pixels.items():
            for start in range(0, len(piece.labels), survey.BATCH):
                part = slice(start, start + survey.BATCH)
                images = arrays.channels_first(piece, part)
                writer.add(
                    _stored(split, set(found.pixels)),
                    images if side is None else arrays.resized(images, side),
                    piece.labels[part].tolist(),
                )
                self.alive()
        return writer

    def _write_images(self, found: Found, opened: Opener) -> Writer:
        seen = survey.look(found, self.alive)
        readable = [known for known in seen.headers if known is not None]
        channels = 1 if all(known.gray for known in readable) else 3
        side = self.image_size
        if side is None and len(seen.sizes) > 1:
            shorts = [min(size) for size, count in seen.sizes.items() for _ in range(count)]
            side = min(LARGEST_DEFAULT, median_low(shorts))
            why = f"sizes vary: the short side became {side}, and the centre was cut out"
            self.report["stored"] = {"resized": why}
        if side is not None or not readable:
            height = width = side or 1
        else:
            height, width = readable[0].height, readable[0].width
        writer = opened((channels, height, width))
        present = {image.split for image in found.images}
        with found.files.reading() as reader:
            for index, (image, known) in enumerate(zip(found.images, seen.headers, strict=True)):
                if index % survey.BATCH == 0:
                    self.alive()
                if known is None:
                    continue
                try:
                    array = pixels(reader.read(image.member), channels=channels, side=side)
                except BadImage as error:
                    seen.corrupt.append((shown(image.member.name), str(error)))
                else:
                    writer.add(_stored(image.split, present), array[None], [image.label], [image.member.name])
        self.report |= survey.describe(seen, self.notes)
        survey.check(found, seen)
        return writer

    def _count(self, writer: Writer, found: Found) -> None:
        """Images of each class in each split, into the report. Raises UnusableUpload for a class that cannot train."""
        counts = {split: np.bincount(writer.labels(split), minlength=len(found.classes)) for split in SPLITS}
        used = [split for split in SPLITS if writer.count(split)]
        self.report["images"] = {split: writer.count(split) for split in used}
        self.report["classes"] = [
            {"name": label, **{split: int(counts[split][index]) for split in used}}
            for index, label in enumerate(found.classes)
        ]
        lacking = {
            split: [label for label, count in zip(found.classes, counts[split], strict=True) if not count]
            for split in SPLITS
        }
        if lacking["train"]:
            raise UnusableUpload(
                f"{len(lacking['train'])} classes have no training image: {', '.join(lacking['train'][:10])}.",
                remedy="Give every class images in train, or leave it out of the other splits, too.",
            )
        for split in used:
            if lacking[split]:
                names = ", ".join(lacking[split][:10])
                self.notes.append(f"{len(lacking[split])} classes have no image in {split}: {names}")


def _stored(split: Split, present: set[Split]) -> StoredSplit:
    """With val and no test, val is the test split: it is what was held out."""
    return "test" if split == "val" and "test" not in present else _STORED[split]
