"""What the headers of all images say, before one is decoded: sizes, colour modes, files that cannot be read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from worker.engine.data.decode import BadImage, Header, header, matches_suffix
from worker.engine.data.files import Member, Reader, shown
from worker.engine.data.found import Found, Split
from worker.engine.errors import UnusableUpload

CORRUPT_SHARE = 0.1
"""Of the files: above it a set is taken for broken, below it they are left out by name."""
LISTED = 50
"""At most so many files are named of each kind."""
BATCH = 256
_FILE_LIMIT = 512 * 2**20


@dataclass
class Survey:
    """What the headers say."""

    headers: list[Header | None] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    corrupt: list[tuple[str, str]] = field(default_factory=list)
    digests: dict[bytes, set[Split]] = field(default_factory=dict)
    misnamed: int = 0
    animated: int = 0
    alpha: int = 0
    deep: int = 0
    """With 16 bits a channel."""
    turned: int = 0


def look(found: Found, alive: Callable[[], None]) -> Survey:
    """Look at every image's header."""
    survey = Survey()
    with found.files.reading() as reader:
        for index, image in enumerate(found.images):
            if index % BATCH == 0:
                alive()
            try:
                data = _bytes_of(reader, image.member)
                known = header(data)
            except BadImage as error:
                survey.headers.append(None)
                survey.corrupt.append((shown(image.member.name), str(error)))
                continue
            survey.headers.append(known)
            survey.sizes[known.width, known.height] += 1
            survey.modes[known.mode] += 1
            survey.animated += known.frames > 1
            survey.alpha += known.alpha
            survey.deep += known.mode.startswith("I")
            survey.turned += known.turned
            survey.misnamed += bool(image.member.suffix) and not matches_suffix(image.member.suffix, known.format)
            survey.digests.setdefault(hashlib.sha256(data).digest(), set()).add(image.split)
    return survey


def _bytes_of(reader: Reader, member: Member) -> bytes:
    if member.size > _FILE_LIMIT:
        raise BadImage(f"the file has more than {_FILE_LIMIT:,} bytes")
    return reader.read(member)


def describe(survey: Survey, notes: list[str]) -> dict[str, Any]:
    """The survey as part of a report; what is worth a sentence is added to ``notes``."""
    across = sum(len(splits) > 1 for splits in survey.digests.values())
    if across:
        notes.append(f"{across:,} image files lie in more than one split, so accuracy there is too good")
    grays = sum(known.gray for known in survey.headers if known is not None)
    if 0 < grays < sum(survey.modes.values()):
        notes.append(f"{grays:,} gray images became RGB, as the others are")
    for count, what in (
        (survey.alpha, "images have transparency, which was put on white"),
        (survey.deep, "images have 16 bits a channel, which were scaled to 8"),
        (survey.turned, "images were turned upright, as their EXIF says"),
        (survey.animated, "images are animated; their first frame was taken"),
        (survey.misnamed, "images are of another format than their name says; the content counts"),
    ):
        if count:
            notes.append(f"{count:,} {what}")
    listed = [{"file": name, "problem": problem} for name, problem in survey.corrupt[:LISTED]]
    return {
        "sizes": [
            {"size": f"{width}x{height}", "count": count} for (width, height), count in survey.sizes.most_common(10)
        ],
        "different_sizes": len(survey.sizes),
        "modes": dict(survey.modes.most_common()),
        "corrupt": {"count": len(survey.corrupt), "files": listed},
    }


def check(found: Found, survey: Survey) -> None:
    """Raise UnusableUpload when too many files cannot be read."""
    share = len(survey.corrupt) / len(found.images)
    if share > CORRUPT_SHARE:
        raise UnusableUpload(
            f"{len(survey.corrupt):,} of {len(found.images):,} images cannot be read ({share:.0%}, and "
            f"{CORRUPT_SHARE:.0%} are the limit); the first: {first(survey)}.",
            remedy="Mend or remove the files that the report names.",
        )


def first(survey: Survey) -> str:
    """The first unreadable file and its problem."""
    return ": ".join(survey.corrupt[0]) if survey.corrupt else ""
