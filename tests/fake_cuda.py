"""A stand-in for libcuda with one GPU or more, whose memory is the host's and whose streams do everything at once.

It gives what ctypes.CDLL would: functions with the driver's names, each a C callback of the type in cuda.h. It refuses
what the driver refuses, and writes down as a problem what would crash or go wrong there: handles and addresses that are
not (or no longer) alive, calls without a current context, writes past the end. Launched kernels are handed to
`on_launch(name, n_blocks, n_threads, shared_bytes, argument_values)`, so an emulator can run them on real addresses.
"""

import ctypes
import itertools
import struct
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from fake_cuda_calls import TYPES, Misuse, Result, driver, put
from fake_cuda_kernels import Kernels
from fake_cuda_memory import MemoryOfGpus
from fake_cuda_streams import Streams

from edgellama.cuda import library

ATTRIBUTES = {16: 132, 19: 1, 38: 50 << 20, 95: 1, 97: 227 << 10}  # of an H100, by CUdevice_attribute
ENDING = frozenset({
    "cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2", "cuEventDestroy_v2", "cuGraphDestroy", "cuGraphExecDestroy",
    "cuModuleUnload", "cuDevicePrimaryCtxRelease_v2", "cuStreamEndCapture",
})  # fmt: skip
_numbers = itertools.count(1)


class FakeCuda(Streams, Kernels, MemoryOfGpus):
    """`calls` counts by name; `problems` are mistakes of the caller, for the test to check at its end."""

    def __init__(self, n_devices=1, version=13000, memory_bytes=1 << 30, compute_capability=(9, 0), missing=()):
        self.n_devices, self.cuda_version, self.memory_bytes = n_devices, version, memory_bytes
        self.compute_capability, self.missing = compute_capability, frozenset(missing)
        self.attributes = ATTRIBUTES | dict(zip((75, 76), compute_capability, strict=True))
        self.calls: Counter[str] = Counter()
        self.problems: list[str] = []
        self.lost = 0
        self._failures: dict[str, list[int]] = {}
        self._fail_at: dict[int, int] = {}
        self._handles: dict[int, tuple[str, int, Any]] = {}  # handle -> kind, context, object
        self._next_handle = 0x7F00_0000_0000  # more than 32 bits, so that cutting one off shows
        self._current = threading.local()
        self._contexts: dict[int, list[int]] = {}  # device -> handle of its primary context, how often retained
        self._is_started = False
        super().__init__()
        names = {name: getattr(type(self), name) for name in dir(type(self))}
        self._methods = {method.driver_name: method for method in names.values() if hasattr(method, "driver_name")}

    def __getattr__(self, name: str) -> Callable[..., int]:
        methods = self.__dict__.get("_methods", {})
        if name not in methods or name in self.missing:
            raise AttributeError(name)
        types = [TYPES[letter] for letter in methods[name].types]
        function = ctypes.CFUNCTYPE(ctypes.c_int, *types)(partial(self._called, name))
        setattr(self, name, function)
        return function

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """Let one call of a function return this code, after so many that succeed."""
        self._failures[name] = [0] * after + [code]

    def fail_call(self, number: int, code: int) -> None:
        """The same for the call of this number, whatever its function, counted from now on."""
        self._fail_at[self.calls.total() + number] = code

    def lose(self, code: int) -> None:
        """Let every later call return this code, as after a kernel that reached outside its memory."""
        self.lost = code

    def left(self) -> list[str]:
        """The kinds of everything that was made and not freed, and contexts that are still open."""
        return [kind for kind, _, _ in self._handles.values()] + ["context"] * len(self._contexts)

    def _called(self, name: str, *arguments: Any) -> int:
        self.calls[name] += 1
        planned = self._fail_at.pop(self.calls.total(), 0) or (self._failures.get(name) or [0]).pop(0)
        try:
            if planned and name in ENDING:
                self._end(name, arguments)
            return planned or self._answer(name, arguments)
        except Result as result:
            if isinstance(result, Misuse):
                self.problems.append(f"{name}: {result}")
            return result.code
        except Exception:
            self.problems.append(f"{name}: {traceback.format_exc()}")
            return 719

    def _answer(self, name: str, arguments: tuple) -> int:
        method = self._methods[name]
        if method.needs_context:
            self.context()
            if self.lost:
                return self.lost
        return method(self, *arguments) or 0

    def _end(self, name: str, arguments: tuple) -> None:
        """What frees something reports an error of earlier work, and frees it nevertheless."""
        if name == "cuStreamEndCapture":
            self.find("stream", arguments[0]).recorded = None
        else:
            self._answer(name, arguments)

    def context(self) -> int:
        """The calling thread's current context."""
        current = getattr(self._current, "context", 0)
        if not self._is_started:
            raise Misuse(3, "the driver was not started")
        if not current or current not in [handle for handle, _ in self._contexts.values()]:
            raise Misuse(201, "no context, or one that is gone, is current in this thread")
        return current

    def make(self, kind: str, thing: Any, handle: int = 0) -> int:
        if not handle:
            handle = self._next_handle = self._next_handle + 16
        self._handles[handle] = (kind, self.context(), thing)
        return handle

    def find(self, kind: str, handle: int | None) -> Any:
        found = self._handles.get(handle or 0)
        if found is None or found[:2] != (kind, self.context()):
            raise Misuse(400, f"{handle} is no {kind} of this context, or was freed")
        return found[2]

    def destroy(self, kind: str, handle: int | None) -> Any:
        thing = self.find(kind, handle)
        del self._handles[handle]
        return thing

    @driver("cuInit", "u", needs_context=False)
    def start(self, flags):
        if self.n_devices == 0:
            raise Result(100)
        self._is_started = True

    @driver("cuDriverGetVersion", "p", needs_context=False)
    def version(self, out):
        put(out, ctypes.c_int, self.cuda_version)

    @driver("cuDeviceGetCount", "p", needs_context=False)
    def count_devices(self, out):
        put(out, ctypes.c_int, self.n_devices)

    @driver("cuDeviceGet", "pi", needs_context=False)
    def device(self, out, index):
        if not 0 <= index < self.n_devices:
            raise Result(101)
        put(out, ctypes.c_int, index)

    @driver("cuDeviceGetName", "pii", needs_context=False)
    def device_name(self, out, n_bytes, ordinal):
        name = f"Fake GPU {ordinal}\0".encode()
        ctypes.memmove(out, name, min(len(name), n_bytes))

    @driver("cuDeviceGetUuid_v2", "pi", needs_context=False)
    def device_identity(self, out, ordinal):
        ctypes.memmove(out, struct.pack(">QQ", 0x0011223344556677, ordinal), 16)

    @driver("cuDeviceGetAttribute", "pii", needs_context=False)
    def device_attribute(self, out, number, ordinal):
        put(out, ctypes.c_int, self.attributes[number])

    @driver("cuDeviceTotalMem_v2", "pi", needs_context=False)
    def device_memory(self, out, ordinal):
        put(out, ctypes.c_size_t, self.memory_bytes)

    @driver("cuDevicePrimaryCtxRetain", "pi", needs_context=False)
    def retain_context(self, out, ordinal):
        if ordinal not in self._contexts:
            self._next_handle += 16
            self._contexts[ordinal] = [self._next_handle, 0]
        self._contexts[ordinal][1] += 1
        put(out, ctypes.c_uint64, self._contexts[ordinal][0])

    @driver("cuDevicePrimaryCtxRelease_v2", "i", needs_context=False)
    def release_context(self, ordinal):
        if ordinal not in self._contexts:
            raise Misuse(201, "the primary context was released more often than retained")
        self._contexts[ordinal][1] -= 1
        if self._contexts[ordinal][1] == 0:
            context, _ = self._contexts.pop(ordinal)
            left = [kind for kind, owner, _ in self._handles.values() if owner == context]
            if left and not self.lost:
                self.problems.append(f"left in a context that was closed: {', '.join(left)}")
            self._handles = {key: item for key, item in self._handles.items() if item[1] != context}

    @driver("cuCtxSetCurrent", "p", needs_context=False)
    def set_current(self, context):
        if context and context not in [handle for handle, _ in self._contexts.values()]:
            raise Misuse(201, "a context that is gone was made current")
        self._current.context = context

    @driver("cuCtxSynchronize")
    def synchronize_context(self):
        pass


def install(monkeypatch: Any, fake: Any) -> Any:
    """Let edgellama find this instead of libcuda until the test ends."""
    monkeypatch.setenv("EDGELLAMA_LIBCUDA", f"fake {next(_numbers)}")  # the loader remembers by this name
    monkeypatch.setattr(library, "_shared_object", lambda override: fake)
    return fake
