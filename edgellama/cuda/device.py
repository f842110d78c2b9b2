"""One GPU: its facts, and everything that is made on it, which ends with it."""

from __future__ import annotations

import contextlib
import ctypes
import uuid
from types import TracebackType

from ..errors import EdgellamaError
from .library import CudaError, Library, load_library
from .memory import Memory, Pinned
from .module import Module
from .resource import CURRENT, Context, Resource
from .results import GONE
from .stream import Event, Stream

# CUdevice_attribute of cuda.h.
_MULTIPROCESSOR_COUNT, _CAN_MAP_HOST_MEMORY, _L2_CACHE_SIZE = 16, 19, 38
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76
_COOPERATIVE_LAUNCH, _MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 95, 97
_NAME_BYTES = 256
_OVERLAP_CAPABILITY, _OVERLAP_VERSION = (9, 0), (12, 3)  # before CUDA 12.3 a graph could not record it


def device_count() -> int:
    """How many GPUs this process may use: 0 without a driver too. Never raises."""
    try:
        return _count(load_library())
    except EdgellamaError:
        return 0


def _count(library: Library) -> int:
    count = ctypes.c_int()
    library.call("cuDeviceGetCount", ctypes.byref(count))
    return count.value


class Device:
    """GPU number `index`, opened. Any thread may use it and what it makes.

    It shares the primary context of the process with other libraries. Close it, or use it in a `with`.
    Raises EdgellamaError where there is no such GPU, or it cannot be opened.
    """

    _is_open = False

    def __init__(self, index: int = 0):
        self.library = load_library()
        n_devices = _count(self.library)
        if not 0 <= index < n_devices:
            raise EdgellamaError(f"there is no GPU {index}: the driver shows {n_devices}, numbered from 0")
        self.index = index
        self._read_facts()
        self._made: dict[Resource, None] = {}  # in the order in which it was made
        handle = ctypes.c_void_p()
        doing = f"opening {self.name}"
        self.library.call("cuDevicePrimaryCtxRetain", ctypes.byref(handle), self._ordinal, doing=doing)
        self.context = Context(handle.value or 0)
        self._is_open = True
        try:
            self.make_current()
        except CudaError:
            self.close()
            raise

    def _read_facts(self) -> None:
        library, ordinal = self.library, ctypes.c_int()
        library.call("cuDeviceGet", ctypes.byref(ordinal), self.index)
        self._ordinal = ordinal.value
        name, identity, memory = ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_uint8 * 16)(), ctypes.c_size_t()
        library.call("cuDeviceGetName", name, _NAME_BYTES, ordinal)
        library.call("cuDeviceGetUuid_v2", identity, ordinal)
        library.call("cuDeviceTotalMem_v2", ctypes.byref(memory), ordinal)
        self.name = name.value.decode(errors="replace")
        self.uuid = f"GPU-{uuid.UUID(bytes=bytes(identity))}"
        self.memory_bytes = memory.value
        self.driver_version = library.version
        self.compute_capability = (self._fact(_COMPUTE_CAPABILITY_MAJOR), self._fact(_COMPUTE_CAPABILITY_MINOR))
        self.n_multiprocessors = self._fact(_MULTIPROCESSOR_COUNT)
        self.l2_bytes = self._fact(_L2_CACHE_SIZE)
        self.shared_bytes_per_block = self._fact(_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        self.can_cooperate = bool(self._fact(_COOPERATIVE_LAUNCH))
        self.can_map_host = bool(self._fact(_CAN_MAP_HOST_MEMORY))
        self.can_overlap = self.compute_capability >= _OVERLAP_CAPABILITY and self.driver_version >= _OVERLAP_VERSION

    def _fact(self, number: int) -> int:
        value = ctypes.c_int()
        self.library.call("cuDeviceGetAttribute", ctypes.byref(value), number, self._ordinal)
        return value.value

    def make_current(self) -> None:
        """Let the calling thread's calls of the driver go to this GPU. Everything here does so by itself."""
        if not self._is_open:
            raise EdgellamaError(f"{self.name} was used after it had been closed")
        if CURRENT.context is not self.context:
            self.library.call("cuCtxSetCurrent", self.context.handle)
            CURRENT.context = self.context

    def free_bytes(self) -> int:
        """Memory that no process uses."""
        self.make_current()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.library.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, n_bytes: int) -> Memory:
        """Memory of the GPU with undefined content. Raises OutOfDeviceMemory."""
        self.make_current()
        return Memory(self, n_bytes)

    def pinned(self, n_bytes: int) -> Pinned:
        """Page-locked memory of the host that the GPU reaches too. Raises OutOfDeviceMemory."""
        self.make_current()
        return Pinned(self, n_bytes)

    def stream(self) -> Stream:
        self.make_current()
        return Stream(self)

    def event(self) -> Event:
        self.make_current()
        return Event(self)

    def module(self, image: bytes) -> Module:
        """Load PTX text or a cubin. Raises CudaError with what the driver's compiler says."""
        self.make_current()
        return Module(self, image)

    def hold(self, made: Resource) -> None:
        self._made[made] = None

    def forget(self, made: Resource) -> None:
        self._made.pop(made, None)

    def release(self, name: str, *arguments: int) -> None:
        """Call a function that frees something; if the GPU is lost there is nothing left to free."""
        try:
            self.make_current()
        except CudaError as error:
            if error.code in GONE:
                return
            raise
        self.library.release(name, *arguments)

    def close(self) -> None:
        """Wait for the GPU, free everything that was made on it, and give it back. A second time does nothing."""
        if not self._is_open:
            return
        with contextlib.ExitStack() as last_to_first:  # goes on if one of them fails
            last_to_first.callback(self.library.release, "cuDevicePrimaryCtxRelease_v2", self._ordinal)
            last_to_first.callback(self._leave, CURRENT.context)
            for made in self._made:
                last_to_first.callback(made.free)
            last_to_first.callback(self.release, "cuCtxSynchronize")

    def _leave(self, before: Context | None) -> None:
        """Put the thread back to the GPU where it was: Python may collect a device in the middle of another launch."""
        self._is_open, self.context.handle = False, 0
        CURRENT.context = before
        self.library.release("cuCtxSetCurrent", before.handle if before else 0)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def __del__(self):
        with contextlib.suppress(Exception):  # nobody could catch it
            self.close()
