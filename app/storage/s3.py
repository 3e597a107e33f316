"""Files in a bucket of an S3-compatible store. Credentials, region and endpoint come from the usual AWS variables."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.errors import StorageError
from app.storage.base import BINARY, CHUNK, Found, Measure, Storage, Stored, checked
from app.storage.refusals import brief, explain

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

PART_BYTES = 16 * 2**20
"""Of a multipart upload; a store takes 10,000 of them, so a file may hold 156 GiB. Smaller files go in one request."""
_AT_ONCE = 2
_PAGE = 1000
_LINK_FOR = timedelta(minutes=10)
_CHECK_AGAIN_SECONDS = 5.0

_HASTY: RetryConfig = {"max_retries": 0}
_ADDRESS = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)?")


class S3Storage(Storage):
    """A bucket, or what lies below a prefix of it."""

    def __init__(
        self, bucket: str, prefix: str = "", *, patience_seconds: float = 15, public_endpoint: str = ""
    ) -> None:
        if not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(prefix):
            raise StorageError(f"STILLHOUSE_STORAGE_URL must be s3://BUCKET/PREFIX, not 's3://{bucket}/{prefix}'")
        self.place = f"s3://{bucket}" + (f"/{prefix}" if prefix else "")
        endpoint = _address("AWS_ENDPOINT_URL_S3") or _address("AWS_ENDPOINT_URL")
        _check_address("STILLHOUSE_STORAGE_PUBLIC_ENDPOINT", public_endpoint)

        def opened(retry: RetryConfig, stall_seconds: float, *, seen_at: str = "") -> S3Store:
            config: S3Config = {"aws_endpoint_url_s3": seen_at} if seen_at else {}
            client: ClientConfig = {
                "allow_http": (seen_at or endpoint).startswith("http://"),
                "connect_timeout": timedelta(seconds=3),
                "read_timeout": timedelta(seconds=stall_seconds),
                "timeout": timedelta(hours=12),  # of a whole download, however slow; one that stands still ends before
            }
            return S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retry)

        try:
            self._store = opened(_patient(patience_seconds), 60)
            self._hasty = opened(_HASTY, 3)
            self._public = opened(_HASTY, 3, seen_at=public_endpoint) if public_endpoint else self._store
        except (BaseError, ValueError) as error:
            raise StorageError(
                f"{self.place} cannot be opened: {brief(str(error))}; check the AWS_* variables"
            ) from error
        self._checked: tuple[float, StorageError | None] = (float("-inf"), None)

    def put(self, key: str, source: BinaryIO, *, media_type: str = BINARY) -> Stored:
        """A small file in one request; a large one in parts, which the store shows as a file once all are there.

        What goes wrong between aborts the parts. Only when the store is gone, or this process, do they stay: see the
        bucket's rule in docs/how-to/object-store.md.
        """
        measure = Measure()
        name = checked(key).rpartition("/")[2]
        attributes = {"Content-Type": media_type, "Content-Disposition": f'attachment; filename="{name}"'}
        first = measure.add(source.read(PART_BYTES))
        with self._explained("write", key):
            if len(first) < PART_BYTES:
                obstore.put(self._store, key, first, attributes=attributes, use_multipart=False)
            else:
                rest = (measure.add(chunk) for chunk in iter(lambda: source.read(CHUNK), b""))
                obstore.put(
                    self._store,
                    key,
                    chain([first], rest),
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=PART_BYTES,
                    max_concurrency=_AT_ONCE,
                )
        return measure.stored(key)

    def read(self, key: str, into: BinaryIO) -> Stored:
        measure = Measure()
        into.writelines(measure.add(chunk) for chunk in self._chunks(checked(key)))
        return measure.stored(key)

    def _chunks(self, key: str) -> Iterator[bytes]:
        with self._explained("read", key):
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def local_path(self, key: str) -> Path | None:
        return None

    def link(self, key: str) -> str:
        with self._explained("sign a link to", key):
            return obstore.sign(self._public, "GET", checked(key), _LINK_FOR)

    def find(self, prefix: str) -> Iterator[Found]:
        with self._explained("list", prefix):
            for page in obstore.list(self._store, prefix, chunk_size=_PAGE):
                for item in page:
                    yield Found(item["path"], item["last_modified"])

    def delete(self, *keys: str) -> None:
        with self._explained("delete", keys[0]):
            obstore.delete(self._store, [checked(key) for key in keys])

    def delete_prefix(self, prefix: str) -> None:
        with self._explained("delete", prefix):
            for page in obstore.list(self._store, checked(prefix), chunk_size=_PAGE):
                obstore.delete(self._store, [item["path"] for item in page])

    def check(self) -> None:
        """Asked by whoever watches over the service, so an answer holds for some seconds."""
        moment, error = self._checked
        if time.monotonic() - moment > _CHECK_AGAIN_SECONDS:
            error = self._probe()
            self._checked = (time.monotonic(), error)
        if error is not None:
            raise error

    def _probe(self) -> StorageError | None:
        key = f"health/{uuid.uuid4().hex}"
        try:
            with self._explained("use", key):
                obstore.put(self._hasty, key, b"probe", use_multipart=False)
                if bytes(obstore.get(self._hasty, key).bytes()) != b"probe":
                    return StorageError(f"{self.place} gives back other bytes than it was given; use another store")
                obstore.delete(self._hasty, [key])
        except StorageError as error:
            return error
        return None

    @contextmanager
    def _explained(self, verb: str, key: str) -> Iterator[None]:
        """The store's refusals as sentences. What is missing stays a FileNotFoundError, unless it is the bucket."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" not in str(error):
                raise FileNotFoundError(f"{self.place}/{key}") from None
            raise explain(f"cannot {verb} {self.place}/{key}", str(error)) from error
        except BaseError as error:
            raise explain(f"cannot {verb} {self.place}/{key}", str(error)) from error


def _address(variable: str) -> str:
    return _check_address(variable, os.environ.get(variable, ""))


def _check_address(variable: str, given: str) -> str:
    """The library would end the process over an address that is none. Raises StorageError."""
    if given and not _ADDRESS.fullmatch(given):
        raise StorageError(f"{variable} must be an address like https://s3.example.com:9000, not {given!r}")
    return given


def _patient(seconds: float) -> RetryConfig:
    """A restart of the store passes unnoticed; what lasts longer is the caller's to decide about."""
    return {
        "max_retries": 1000,
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
        "retry_timeout": timedelta(seconds=seconds),
    }
