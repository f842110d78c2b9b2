"""Uploads from any memory of the host, a mapped file above all, through two page-locked buffers in turn.

While one buffer travels to the GPU the next part is copied, and read from disk, into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .memory import Pinned
from .stream import Event, Stream

if TYPE_CHECKING:
    from .device import Device

STAGING_BYTES = 16 << 20


class Uploader:
    """`staging_bytes`: the size of each of the two buffers. `progress` is called with the bytes of each part sent."""

    def __init__(
        self,
        device: Device,
        stream: Stream,
        staging_bytes: int = STAGING_BYTES,
        progress: Callable[[int], None] | None = None,
    ):
        self._stream, self._progress = stream, progress
        self._buffers: list[tuple[Pinned, Event]] = [(device.pinned(staging_bytes), device.event()) for _ in range(2)]
        self._staging_bytes = staging_bytes

    def send(self, address: int, source: Any) -> None:
        """Copy a contiguous array, or anything with a buffer, to the GPU's address. `source` may change at once."""
        data = _as_bytes(source)
        for start in range(0, data.size, self._staging_bytes):
            self._send_part(address + start, data[start : start + self._staging_bytes])

    def _send_part(self, address: int, part: np.ndarray) -> None:
        pinned, sent = self._buffers[0]
        self._buffers.reverse()
        sent.synchronize()
        staged = pinned.array[: part.size]
        np.copyto(staged, part)
        self._stream.upload(address, staged)
        self._stream.record(sent)
        if self._progress:
            self._progress(part.size)

    def finish(self) -> None:
        """Wait until everything has arrived, and free the buffers; the uploader is of no more use."""
        self._stream.synchronize()
        for pinned, sent in self._buffers:
            pinned.free()
            sent.free()
        self._buffers.clear()


def _as_bytes(source: Any) -> np.ndarray:
    """(n_bytes,) uint8 over the same memory. Raises ValueError for an array that is not contiguous."""
    if isinstance(source, np.ndarray):
        if not source.flags.c_contiguous:
            raise ValueError("an upload needs a contiguous array")
        return source.reshape(-1).view(np.uint8)
    return np.frombuffer(source, np.uint8)
