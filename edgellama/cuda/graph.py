"""A graph: work of a stream that was recorded once and is launched again with one call."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from .library import cuda_error
from .resource import CURRENT, Resource

if TYPE_CHECKING:
    from .device import Device
    from .stream import Stream

# CU_STREAM_CAPTURE_MODE_RELAXED: allocating, or freeing something that Python collects just then, must not spoil it.
_RELAXED = 2


class Graph(Resource):
    """Made by `Stream.capture()`. `n_nodes`: how many kernels and copies it has."""

    KIND, RELEASE = "a graph", "cuGraphExecDestroy"

    def __init__(self, device: Device):
        self.device = device
        self._context = device.context
        self._handle = None
        self._kept: list[Any] = []
        self.n_nodes = 0

    def launch(self, stream: Stream) -> None:
        """Do the recorded work on a stream, after what was given to it before."""
        if CURRENT.context is not self._context:
            self.device.make_current()
        code = self.device.library.cuGraphLaunch(self.handle, stream.handle)
        if code:
            raise cuda_error(code, f"launching a graph of {self.n_nodes} nodes")

    def keep(self, array: Any) -> None:
        """Hold on to host memory that the graph reads or writes."""
        self._kept.append(array)

    def begin(self, stream: int) -> None:
        self.device.library.call("cuStreamBeginCapture_v2", stream, _RELAXED)

    def abandon(self, stream: int) -> None:
        """End recording after an exception, which matters more than what the driver says now."""
        recorded = ctypes.c_void_p()
        self.device.library.cuStreamEndCapture(stream, ctypes.byref(recorded))
        if recorded.value:
            self.device.library.cuGraphDestroy(recorded)

    def finish(self, stream: int) -> None:
        """End recording and prepare what was recorded for launching."""
        library, recorded, executable = self.device.library, ctypes.c_void_p(), ctypes.c_void_p()
        library.call("cuStreamEndCapture", stream, ctypes.byref(recorded))
        try:
            n_nodes = ctypes.c_size_t()
            library.call("cuGraphGetNodes", recorded, None, ctypes.byref(n_nodes))
            library.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), recorded, 0)
            self.n_nodes = n_nodes.value
            super().__init__(self.device, executable.value or 0)
        finally:
            library.release("cuGraphDestroy", recorded)

    def free(self) -> None:
        super().free()
        self._kept.clear()
