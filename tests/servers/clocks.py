"""The clock of a service's processes, apart from the machine's: Debian's faketime, by its library."""

from __future__ import annotations

from pathlib import Path

from tests.servers import require


class Clock:
    """What processes with ``settings`` take for the time of day. Their stopwatches go on as they are."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        library = "libfaketimeMT.so.1"
        found = require(library, package="faketime", folders=("/usr/lib/*/faketime",), variable="LD_LIBRARY_PATH")
        self.settings = {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # it looks at the file each time
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set("+0")

    def set(self, offset: str) -> None:
        """How far it is off from now on, as faketime writes it: ``+2h``."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(offset)
        draft.rename(self._file)
