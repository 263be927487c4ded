"""Files of the runs URL as one zip that is written while it is read: no size needs more memory than a few chunks.

Pages run as WSGI (see `asgi.py`), which takes a plain iterator piece by piece; of an asynchronous one Django would
put all pieces into memory first. A download holds one of the web server's threads until it ends.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
from django.conf import settings

CHUNK = 1 << 20  # bytes
Entry = tuple[str, Iterator[bytes]]  # name in the zip, its content in pieces


class _Sink(io.RawIOBase):
    """Takes what zipfile writes; it can't be sought, so each file's size and checksum come after it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(self.parts[-1])

    def take(self) -> bytes:
        data, self.parts = b"".join(self.parts), []
        return data


def list_files(folder: str) -> list[str]:
    """Names under `folder`, which is relative to the runs URL; [] where it is gone."""
    system, root = fsspec.url_to_fs(settings.RUNS_URL)
    system.invalidate_cache()
    base = f"{root}/{folder}"
    try:
        found = system.find(base)
    except FileNotFoundError:
        return []
    start = len(system._strip_protocol(base)) + 1
    return sorted(path[start:] for path in found)


def read_file(path: str) -> Iterator[bytes]:
    """A file of the runs URL in pieces."""
    system, root = fsspec.url_to_fs(settings.RUNS_URL)
    with system.open(f"{root}/{path}", "rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def write_zip(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The zip in pieces. Not compressed: weights hardly shrink. The same files give the same bytes."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, pieces in entries:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    yield sink.take()
    yield sink.take()
