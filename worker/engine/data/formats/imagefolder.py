"""A folder for each class, perhaps within ``train``, ``val`` and ``test``: the layout of torchvision's ImageFolder."""

from __future__ import annotations

from worker.engine.data.decode import SUFFIXES
from worker.engine.data.files import Files, Member, shown
from worker.engine.data.found import SPLITS, EncodedImage, Found, Split
from worker.engine.errors import UnusableUpload


def matches(files: Files) -> bool:
    """Whether there are image files."""
    return any(member.suffix in SUFFIXES for member in files.members)


def read(files: Files) -> Found:
    """Classes are the folders by name. A ``test`` without class folders is unlabelled, and is left out."""
    depth = _wrapping(files.members)
    placed: list[tuple[Member, Split, str]] = []
    skipped: list[str] = []
    split_names = {member.parts[depth].lower() for member in files.members if len(member.parts) > depth + 1}
    has_splits = split_names <= set(SPLITS) or any(SPLITS.get(name) == "train" for name in split_names)
    for member in files.members:
        steps = member.parts[depth:]
        split: Split = "train"
        if member.suffix not in SUFFIXES:
            skipped.append(f"{shown(member.name)}: no image file by its name")
            continue
        if has_splits and len(steps) > 1:
            if steps[0].lower() not in SPLITS:
                skipped.append(f"{shown(member.name)}: in none of train, val, test")
                continue
            split, steps = SPLITS[steps[0].lower()], steps[1:]
        if len(steps) < 2:
            skipped.append(f"{shown(member.name)}: in no class folder")
            continue
        placed.append((member, split, steps[0]))
    if not placed:
        raise UnusableUpload(
            "no image lies in a class folder.", remedy="Put the images of each class into a folder of its own."
        )
    classes = tuple(sorted({name for _, _, name in placed}))
    number = {name: index for index, name in enumerate(classes)}
    images = [EncodedImage(member, split, number[name]) for member, split, name in placed]
    return Found(classes, files, images=images, skipped=skipped)


def _wrapping(members: list[Member]) -> int:
    """1 where everything lies in one folder that is no split and holds folders of folders or of images, else 0."""
    tops = {member.parts[0] for member in members}
    if len(tops) != 1 or any(len(member.parts) == 1 for member in members):
        return 0
    (top,) = tops
    images = [member for member in members if member.suffix in SUFFIXES]
    deeper = all(len(member.parts) > 2 for member in images)
    return 1 if deeper and top.lower() not in SPLITS else 0
