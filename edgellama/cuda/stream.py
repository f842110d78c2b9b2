"""Streams, on which copies and kernels run in the order in which they were given, and events that mark places there."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph
from .launch import Arguments, Blocks, Prepared, prepared
from .library import CudaError, cuda_error
from .prototypes import PROTOTYPES
from .resource import CURRENT, Resource
from .results import NOT_READY

if TYPE_CHECKING:
    from .device import Device
    from .module import Function

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: never waits for the default stream, which other code may use
_MOST_SHAPES = 1024  # launches kept prepared; more come only from a program that never repeats itself


class Event(Resource):
    """A place in a stream: `stream.record(event)`."""

    KIND, RELEASE = "an event", "cuEventDestroy_v2"

    def __init__(self, device: Device):
        handle = ctypes.c_void_p()
        device.library.call("cuEventCreate", ctypes.byref(handle), 0)
        super().__init__(device, handle.value or 0)

    def is_done(self) -> bool:
        """Whether all work before it has ended. An event that was never recorded is done."""
        self.device.make_current()
        code = self.device.library.cuEventQuery(self.handle)
        if code not in (0, NOT_READY):
            raise cuda_error(code, "working on the GPU")
        return code == 0

    def synchronize(self) -> None:
        """Wait until all work before it has ended. Raises DeviceLost where a kernel failed."""
        self.device.make_current()
        self.device.library.call("cuEventSynchronize", self.handle)

    def seconds_since(self, earlier: Event) -> float:
        """The GPU's time from one recorded event to this one, after waiting for both; exact to about a microsecond."""
        earlier.synchronize()
        self.synchronize()
        milliseconds = ctypes.c_float()
        self.device.library.call("cuEventElapsedTime", ctypes.byref(milliseconds), earlier.handle, self.handle)
        return milliseconds.value / 1000


class Stream(Resource):
    """All methods return before the work is done, but for copies of memory that is not page-locked.

    Addresses are the GPU's. Arrays must be contiguous. An error of a kernel shows up in a later call.
    """

    KIND, RELEASE = "a stream", "cuStreamDestroy_v2"

    def __init__(self, device: Device):
        handle = ctypes.c_void_p()
        device.library.call("cuStreamCreate", ctypes.byref(handle), _NON_BLOCKING)
        self._recording: Graph | None = None
        self._launches: dict[tuple, Prepared] = {}
        super().__init__(device, handle.value or 0)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy to the GPU. Page-locked memory must not change until the copy is done.

        A graph reads the memory each time it is launched; there it should be page-locked.
        """
        self._call("cuMemcpyHtoDAsync_v2", address, self._address_of(array), array.nbytes)

    def download(self, array: np.ndarray, address: int) -> None:
        """Copy from the GPU. The array may be read after `synchronize()`."""
        if not array.flags.writeable:
            raise ValueError("a download needs an array that may be written")
        self._call("cuMemcpyDtoHAsync_v2", self._address_of(array), address, array.nbytes)

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        """From one place of the GPU's memory to another that does not overlap it."""
        self._call("cuMemcpyDtoDAsync_v2", target, source, n_bytes)

    def fill(self, address: int, byte: int, n_bytes: int) -> None:
        self._call("cuMemsetD8Async", address, byte, n_bytes)

    def synchronize(self) -> None:
        """Wait for all work of this stream. Raises DeviceLost where a kernel failed."""
        self.device.make_current()
        self.device.library.call("cuStreamSynchronize", self.handle)

    def record(self, event: Event) -> None:
        self.device.make_current()
        self.device.library.call("cuEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Later work of this stream starts after the event, which another stream recorded. The caller does not wait."""
        self.device.make_current()
        self.device.library.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def launch(
        self,
        function: Function,
        n_blocks: Blocks,
        n_threads: int,
        arguments: Arguments,
        shared_bytes: int = 0,
        cooperative: bool = False,
        overlap: bool = False,
    ) -> None:
        """Run a kernel on so many blocks (or x, y, z) of so many threads with dynamic shared memory.

        `cooperative`: all blocks run at once, so a barrier over the grid is safe; more than fit is an error.
        `overlap`: the kernel may start before the one before it has ended and has to wait itself where it needs its
        results (griddepcontrol); ignored where the GPU or the driver cannot, which changes no result.
        """
        if CURRENT.context is not self._context:
            self.device.make_current()
        shape = (n_blocks, n_threads, shared_bytes, cooperative, overlap)
        launch = self._launches.get(shape) or self._prepare(shape)
        code = launch(function.handle, arguments.address, None)
        if code:
            raise _launch_error(code, function, shape)

    def _prepare(self, shape: tuple) -> Prepared:
        if len(self._launches) >= _MOST_SHAPES:
            self._launches.clear()
        overlap = shape[-1] and self.device.can_overlap
        self._launches[shape] = prepared(self.device.library, self.handle, *shape[:-1], overlap)
        return self._launches[shape]

    @contextlib.contextmanager
    def capture(self) -> Iterator[Graph]:
        """What is given to this stream inside the block is recorded instead of done; the graph is ready after it."""
        self.device.make_current()
        graph = Graph(self.device)
        graph.begin(self.handle)
        self._recording = graph
        try:
            yield graph
        except BaseException:
            graph.abandon(self.handle)
            raise
        finally:
            self._recording = None
        self.device.make_current()
        graph.finish(self.handle)

    def free(self) -> None:
        self._launches.clear()  # they hold the handle
        super().free()

    def _call(self, name: str, target: int, source: int, n_bytes: int) -> None:
        self.device.make_current()
        if n_bytes:
            code = getattr(self.device.library, name)(index(target), index(source), index(n_bytes), self.handle)
            if code:
                raise _copy_error(self, name, code, n_bytes)

    def _address_of(self, array: np.ndarray) -> int:
        if not array.flags.c_contiguous:
            raise ValueError("copies between host and GPU need a contiguous array")
        if self._recording is not None:
            self._recording.keep(array)
        return array.ctypes.data


def _copy_error(stream: Stream, name: str, code: int, n_bytes: int) -> CudaError:
    return cuda_error(code, f"{PROTOTYPES[name][0]} {stream.device.name} ({n_bytes:,} bytes)")


def _launch_error(code: int, function: Function, shape: tuple) -> CudaError:
    n_blocks, n_threads, shared_bytes, cooperative, _ = shape
    together = " at once" if cooperative else ""
    size = f"{n_blocks} blocks of {n_threads} threads and {shared_bytes:,} bytes of shared memory"
    return cuda_error(code, f"launching the kernel {function.name} with {size}{together}")
