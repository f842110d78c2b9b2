"""Memory of the GPU, and page-locked memory of the host that both sides can reach."""

from __future__ import annotations

import ctypes
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from .library import OutOfDeviceMemory, cuda_error
from .resource import Resource
from .results import OUT_OF_MEMORY

if TYPE_CHECKING:
    from .device import Device

_PORTABLE, _DEVICE_MAP = 1, 2  # CU_MEMHOSTALLOC_*: page-locked for every context; mapped into the GPU's addresses


class Memory(Resource):
    """`n_bytes` of the GPU's memory at `address`, aligned to 256 bytes, with undefined content."""

    KIND, RELEASE = "memory", "cuMemFree_v2"

    def __init__(self, device: Device, n_bytes: int):
        n_bytes, address = index(n_bytes), ctypes.c_uint64()
        code = device.library.cuMemAlloc_v2(ctypes.byref(address), max(n_bytes, 1))
        if code == OUT_OF_MEMORY:
            raise _out_of_memory(device, n_bytes)
        if code:
            raise cuda_error(code, f"allocating {n_bytes:,} bytes on {device.name}")
        self.n_bytes = n_bytes
        super().__init__(device, address.value)

    @property
    def address(self) -> int:
        return self.handle


def _out_of_memory(device: Device, n_bytes: int) -> OutOfDeviceMemory:
    free = f"{device.free_bytes() / 1e9:.2f} GB of {device.memory_bytes / 1e9:.2f} GB are free"
    error = cuda_error(OUT_OF_MEMORY, f"allocating {n_bytes / 1e9:.2f} GB on {device.name}", free)
    assert isinstance(error, OutOfDeviceMemory)
    return error


class Pinned(Resource):
    """`n_bytes` of page-locked host memory at `address`, which kernels see at `device_address`.

    Copies from and to it run while the program goes on. `array` (n_bytes,) uint8 must not be used once it is freed.
    """

    KIND, RELEASE = "page-locked memory", "cuMemFreeHost"

    def __init__(self, device: Device, n_bytes: int):
        n_bytes, host, mapped = index(n_bytes), ctypes.c_void_p(), ctypes.c_uint64()
        flags = _PORTABLE | _DEVICE_MAP if device.can_map_host else _PORTABLE
        doing = f"page-locking {n_bytes:,} bytes of host memory"
        code = device.library.cuMemHostAlloc(ctypes.byref(host), max(n_bytes, 1), flags)
        if code:
            cause = "the system limits page-locked memory (ulimit -l, or a container)" if code == OUT_OF_MEMORY else ""
            raise cuda_error(code, doing, cause)
        assert host.value
        super().__init__(device, host.value)
        if device.can_map_host:
            device.library.call("cuMemHostGetDevicePointer_v2", ctypes.byref(mapped), host, 0, doing=doing)
        self.n_bytes = n_bytes
        self._device_address = mapped.value
        self._array = np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(host.value))

    @property
    def address(self) -> int:
        return self.handle

    @property
    def device_address(self) -> int:
        """Where kernels find it; 0 on a GPU that cannot map host memory."""
        return self._device_address if self.handle else 0

    @property
    def array(self) -> np.ndarray:
        return self._array if self.handle else self._array[:0]
