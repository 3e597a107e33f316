"""Sending files in: pieces with their digests, and on from what has arrived after any cut (tus 1.0)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from stillhouse.assets import DataSet, Model, Upload
from stillhouse.client.calls import Call, into, nothing
from stillhouse.client.config import CONNECT_ATTEMPTS, pause_before
from stillhouse.client.errors import ApiError, ConnectionFailed, StillhouseError, WrongFile
from stillhouse.resources import Page

Answer = TypeVar("Answer")
OnProgress = Callable[[int, int], None]
"""Called with the bytes that have arrived, and those of the whole file."""

PIECE_BYTES = 8 * 2**20
_TUS = {"Tus-Resumable": "1.0.0"}
_GO_ON_AFTER = (409, 423, 460, 503)
"""Another offset, another writer, bytes that changed on the way, a store that is away: HEAD says where to go on."""
_LOOK_SECONDS = 0.5


def _offset(response: httpx.Response) -> int:
    return int(response.headers["Upload-Offset"])


def begin(path: Path) -> Call[Upload]:
    """Not repeatable: an answer that is lost leaves an upload behind, which expires."""
    name = base64.b64encode(path.name.encode(errors="replace")).decode()
    headers = {**_TUS, "Upload-Length": str(path.stat().st_size), "Upload-Metadata": f"filename {name}"}
    return Call("POST", "/v1/uploads", into(Upload), headers=headers)


def progress(upload_id: str, size: int) -> Call[int]:
    """How much has arrived of a file. Raises WrongFile when the upload is not of one of ``size`` bytes."""

    def parse(response: httpx.Response) -> int:
        if (length := int(response.headers["Upload-Length"])) != size:
            begun = f"{upload_id} was begun with a file of {length:,} bytes and this one holds {size:,}"
            raise WrongFile(f"{begun}; go on with the same file, or begin another upload")
        return _offset(response)

    return Call("HEAD", f"/v1/uploads/{upload_id}", parse, headers=_TUS)


def piece(upload_id: str, offset: int, data: bytes) -> Call[int]:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {
        **_TUS,
        "Upload-Offset": str(offset),
        "Upload-Checksum": f"sha256 {digest}",
        "Content-Type": "application/offset+octet-stream",
    }
    return Call("PATCH", f"/v1/uploads/{upload_id}", _offset, headers=headers, content=data, repeatable=False)


def drop(upload_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/uploads/{upload_id}", nothing, headers=_TUS)


def make(kind: str, model: type[Answer], body: Mapping[str, Any]) -> Call[Answer]:
    """Repeatable: the same upload again gives what was made of it."""
    return Call("POST", f"/v1/{kind}", into(model), json={k: v for k, v in body.items() if v is not None})


def one(kind: str, model: type[Answer], asset_id: str) -> Call[Answer]:
    return Call("GET", f"/v1/{kind}/{asset_id}", into(model))


def page(kind: str, model: type[Any], cursor: str | None) -> Call[Page[Any]]:
    params = {"limit": 200, **({"cursor": cursor} if cursor else {})}
    return Call("GET", f"/v1/{kind}", into(Page[model]), params=params)  # type: ignore[valid-type]  # at run time it is


def delete(kind: str, asset_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/{kind}/{asset_id}", nothing)


def read_piece(path: Path, offset: int) -> bytes:
    """The next piece of a file. Raises StillhouseError when the file has become shorter."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(PIECE_BYTES)
    if not data:
        raise StillhouseError(f"{path} changed while it was sent; send it again")
    return data


class _Sending:
    """How far a file is, and how often in a row it could not go on."""

    def __init__(self, upload_id: str, on_progress: OnProgress | None, size: int) -> None:
        self.upload_id = upload_id
        self.size = size
        self.offset = 0
        self._on_progress = on_progress
        self._failures = 0

    def arrived(self, offset: int) -> None:
        """So much has."""
        self.offset, self._failures = offset, 0
        if self._on_progress is not None:
            self._on_progress(offset, self.size)

    def failed(self, error: StillhouseError) -> float:
        """Seconds to wait before asking where to go on. Raises ``error`` when that is of no use."""
        self._failures += 1
        hopeless = isinstance(error, ApiError) and error.problem.status not in _GO_ON_AFTER
        if hopeless or self._failures > 2 * CONNECT_ATTEMPTS:
            raise error
        return pause_before(min(self._failures, 4))


class Uploads:
    """What the client does with files, data sets and models."""

    def _send(self, call: Call[Answer]) -> Answer:
        raise NotImplementedError

    def begin_upload(self, path: Path) -> str:
        """Announce a file; the id under which ``upload`` sends it, or goes on with it."""
        return self._send(begin(path)).id

    def upload(self, path: Path, *, upload_id: str | None = None, on_progress: OnProgress | None = None) -> str:
        """Send a file in; its upload's id. With ``upload_id`` an earlier try is gone on with."""
        made = upload_id or self.begin_upload(path)
        sending = _Sending(made, on_progress, path.stat().st_size)
        sending.arrived(self._send(progress(made, sending.size)) if upload_id else 0)
        while sending.offset < sending.size:
            data = read_piece(path, sending.offset)
            try:
                sending.arrived(self._send(piece(made, sending.offset, data)))
            except (ConnectionFailed, ApiError) as error:
                time.sleep(sending.failed(error))
                sending.offset = self._send(progress(made, sending.size))
        return made

    def drop_upload(self, upload_id: str) -> None:
        """Throw away what has arrived."""
        self._send(drop(upload_id))

    def create_dataset(self, *, name: str, upload: str, image_size: int | None = None) -> DataSet:
        """Have a data set made of an upload; ``wait_for`` waits for its validation."""
        return self._send(make("datasets", DataSet, {"name": name, "upload": upload, "image_size": image_size}))

    def dataset(self, dataset_id: str) -> DataSet:
        """A data set with its report."""
        return self._send(one("datasets", DataSet, dataset_id))

    def datasets(self) -> Iterator[DataSet]:
        """The project's data sets, newest first."""
        return self._pages("datasets", DataSet)

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a data set with its files."""
        self._send(delete("datasets", dataset_id))

    def create_model(self, *, name: str, upload: str, **declared: Any) -> Model:
        """Have a model made of an upload: architecture, classes, mean, std, input_size; dataset to be measured on."""
        return self._send(make("models", Model, {"name": name, "upload": upload, **declared}))

    def model(self, model_id: str) -> Model:
        """A model with its report."""
        return self._send(one("models", Model, model_id))

    def models(self) -> Iterator[Model]:
        """The project's models, newest first."""
        return self._pages("models", Model)

    def delete_model(self, model_id: str) -> None:
        """Delete a model with its files."""
        self._send(delete("models", model_id))

    def wait_for(self, asset_id: str) -> DataSet | Model:
        """A data set or model once it is ready or rejected."""
        while True:
            found = self.dataset(asset_id) if asset_id.startswith("ds_") else self.model(asset_id)
            if found.state in ("ready", "rejected"):
                return found
            time.sleep(_LOOK_SECONDS)

    def _pages(self, kind: str, model: type[Answer]) -> Iterator[Answer]:
        cursor: str | None = None
        while True:
            found = self._send(page(kind, model, cursor))
            yield from found.data
            cursor = found.next_cursor
            if not found.has_more:
                return


class AsyncUploads:
    """The same, awaited; see ``Uploads`` for what the methods do."""

    async def _send(self, call: Call[Answer]) -> Answer:
        raise NotImplementedError

    async def upload(self, path: Path, *, upload_id: str | None = None, on_progress: OnProgress | None = None) -> str:
        made = upload_id or (await self._send(begin(path))).id
        sending = _Sending(made, on_progress, (await asyncio.to_thread(path.stat)).st_size)
        sending.arrived(await self._send(progress(made, sending.size)) if upload_id else 0)
        while sending.offset < sending.size:
            data = await asyncio.to_thread(read_piece, path, sending.offset)
            try:
                sending.arrived(await self._send(piece(made, sending.offset, data)))
            except (ConnectionFailed, ApiError) as error:
                await asyncio.sleep(sending.failed(error))
                sending.offset = await self._send(progress(made, sending.size))
        return made

    async def create_dataset(self, *, name: str, upload: str, image_size: int | None = None) -> DataSet:
        return await self._send(make("datasets", DataSet, {"name": name, "upload": upload, "image_size": image_size}))

    async def dataset(self, dataset_id: str) -> DataSet:
        return await self._send(one("datasets", DataSet, dataset_id))

    async def datasets(self) -> AsyncIterator[DataSet]:
        cursor: str | None = None
        while True:
            found = await self._send(page("datasets", DataSet, cursor))
            for row in found.data:
                yield row
            cursor = found.next_cursor
            if not found.has_more:
                return

    async def create_model(self, *, name: str, upload: str, **declared: Any) -> Model:
        return await self._send(make("models", Model, {"name": name, "upload": upload, **declared}))

    async def model(self, model_id: str) -> Model:
        return await self._send(one("models", Model, model_id))

    async def wait_for(self, asset_id: str) -> DataSet | Model:
        while True:
            found = await (self.dataset(asset_id) if asset_id.startswith("ds_") else self.model(asset_id))
            if found.state in ("ready", "rejected"):
                return found
            await asyncio.sleep(_LOOK_SECONDS)
