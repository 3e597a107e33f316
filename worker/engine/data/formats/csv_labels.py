"""Image files with a CSV beside them that says path and label, and perhaps the split, of each."""

from __future__ import annotations

import csv
import io

from worker.engine.data.decode import SUFFIXES
from worker.engine.data.files import Files, Member, shown
from worker.engine.data.found import SPLITS, EncodedImage, Found, Split, class_names
from worker.engine.errors import UnusableUpload

_PATH = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
_LABEL = ("label", "class", "class_name", "category", "target")
_SPLIT = ("split", "set", "subset", "partition")
_SIZE_LIMIT = 256 * 2**20


def matches(files: Files) -> bool:
    """Whether there is one CSV whose first line names a path and a label."""
    table = _table(files)
    return table is not None and len(_columns(files, table)) >= 2


def read(files: Files) -> Found:
    """Paths are relative to the CSV. Raises UnusableUpload for a line that cannot be followed."""
    table = _table(files)
    assert table is not None
    columns = _columns(files, table)
    folder = table.name.rpartition("/")[0]
    by_name = {member.name: member for member in files.members}
    rows: list[tuple[Member, Split, str]] = []
    missing: list[str] = []
    for line, row in _rows(files, table):
        name, label = (row.get(columns[key]) or "" for key in ("path", "label"))
        said = (row.get(columns.get("split", "")) or "train").strip().lower()
        if not label.strip() or said not in SPLITS:
            raise UnusableUpload(
                f"{shown(table.name)}, line {line}: label {shown(label)!r}, split {shown(said)!r}.",
                remedy="Give each line a label, and as split one of train, val, test.",
            )
        member = by_name.get("/".join(filter(None, [folder, name.strip().replace("\\", "/").removeprefix("./")])))
        if member is None or member == table:
            missing.append(f"{shown(name)}: named in line {line} of {shown(table.name)}, and not in the archive")
        else:
            rows.append((member, SPLITS[said], label.strip()))
    if not rows:
        raise UnusableUpload(
            f"no path in {shown(table.name)} leads to a file of the archive.",
            remedy="Write paths relative to the CSV file.",
        )
    classes = class_names([label for _, _, label in rows])
    number = {name: index for index, name in enumerate(classes)}
    images = [EncodedImage(member, split, number[label]) for member, split, label in rows]
    named = {image.member.name for image in images}
    unnamed = [member for member in files.members if member.suffix in SUFFIXES and member.name not in named]
    notes = [f"{len(unnamed):,} image files are not named in {shown(table.name)} and were left out"] if unnamed else []
    return Found(classes, files, images=images, skipped=missing, notes=notes)


def _table(files: Files) -> Member | None:
    tables = [member for member in files.members if member.suffix == "csv"]
    return tables[0] if len(tables) == 1 else None


def _rows(files: Files, table: Member) -> list[tuple[int, dict[str, str]]]:
    if table.size > _SIZE_LIMIT:
        raise UnusableUpload(f"{shown(table.name)} is larger than {_SIZE_LIMIT:,} bytes.", remedy="Shorten its lines.")
    with files.reading() as reader:
        data = reader.read(table)
    try:
        lines = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        return [(lines.line_num, row) for row in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableUpload(f"{shown(table.name)} cannot be read: {error}.", remedy="Store it as UTF-8.") from error


def _columns(files: Files, table: Member) -> dict[str, str]:
    """The header's own words for path, label and split."""
    with files.reading() as reader:
        first = reader.read(table, limit=2**16).decode("utf-8-sig", errors="replace").split("\n", 1)[0].strip("\r")
    try:
        words = next(csv.reader([first]), [])
    except csv.Error:
        return {}
    found: dict[str, str] = {}
    for key, known in (("path", _PATH), ("label", _LABEL), ("split", _SPLIT)):
        match = next((word for word in words if word.strip().lower() in known), None)
        if match is not None:
            found[key] = match
    return found if {"path", "label"} <= set(found) else {}
