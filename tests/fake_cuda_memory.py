"""Memory of the fake GPUs: the host's, with garbage in it at first, and guards behind it."""

import ctypes
from typing import Any

import numpy as np
from fake_cuda_calls import Misuse, Result, driver, put

GARBAGE, GUARD, GUARD_BYTES = 0xCD, 0xA5, 256


class Block:
    """`n_bytes` at an aligned address, between which and the end of the buffer lies the guard."""

    def __init__(self, n_bytes: int, alignment: int):
        self.n_bytes = n_bytes
        self._buffer = np.full(n_bytes + alignment + GUARD_BYTES, GUARD, np.uint8)
        self._start = -self._buffer.ctypes.data % alignment
        self._buffer[self._start : self._start + n_bytes] = GARBAGE
        self.address = self._buffer.ctypes.data + self._start

    def is_intact(self) -> bool:
        end = self._start + self.n_bytes
        return bool((self._buffer[: self._start] == GUARD).all() and (self._buffer[end:] == GUARD).all())

    def holds(self, address: int, n_bytes: int) -> bool:
        return self.address <= address and address + n_bytes <= self.address + self.n_bytes


class MemoryOfGpus:
    memory_bytes: int
    lockable_bytes = 1 << 30
    _handles: dict[int, tuple[str, int, Any]]

    def used_bytes(self, kind: str = "memory") -> int:
        return sum(block.n_bytes for name, _, block in self._handles.values() if name == kind)

    def check_range(self, address: int, n_bytes: int) -> None:
        """That this is memory which the GPU reaches."""
        blocks = [thing for _, context, thing in self._handles.values() if context == self.context()]
        blocks += [block for thing in blocks for block in getattr(thing, "variables", {}).values()]
        if not any(isinstance(block, Block) and block.holds(address, n_bytes) for block in blocks):
            raise Misuse(1, f"{n_bytes} bytes at {address:#x} are not in the GPU's memory")

    def _allocate(self, kind: str, out: int, n_bytes: int, alignment: int, most: int) -> None:
        if n_bytes == 0:
            raise Misuse(1, "an allocation of 0 bytes")
        if self.used_bytes(kind) + n_bytes > most:
            raise Result(2)
        block = Block(n_bytes, alignment)
        put(out, ctypes.c_uint64, self.make(kind, block, block.address))

    def _free(self, kind: str, address: int) -> None:
        if not self.destroy(kind, address).is_intact():
            raise Misuse(700, "something was written beside an allocation")

    @driver("cuMemGetInfo_v2", "pp")
    def memory_info(self, free, total):
        put(free, ctypes.c_size_t, self.memory_bytes - self.used_bytes())
        put(total, ctypes.c_size_t, self.memory_bytes)

    @driver("cuMemAlloc_v2", "pz")
    def allocate(self, out, n_bytes):
        self._allocate("memory", out, n_bytes, 256, self.memory_bytes)

    @driver("cuMemFree_v2", "a")
    def free(self, address):
        self._free("memory", address)

    @driver("cuMemHostAlloc", "pzu")
    def allocate_pinned(self, out, n_bytes, flags):
        if flags & ~7:
            raise Misuse(1, f"flags {flags}")
        self._allocate("pinned", out, n_bytes, 4096, self.lockable_bytes)

    @driver("cuMemFreeHost", "p")
    def free_pinned(self, address):
        self._free("pinned", address)

    @driver("cuMemHostGetDevicePointer_v2", "ppu")
    def device_pointer(self, out, host, flags):
        self.find("pinned", host)
        put(out, ctypes.c_uint64, host)

    @driver("cuMemcpyHtoDAsync_v2", "apzp")
    def upload(self, target, source, n_bytes, stream):
        self.check_range(target, n_bytes)
        self.submit(stream, lambda: ctypes.memmove(target, source, n_bytes))

    @driver("cuMemcpyDtoHAsync_v2", "pazp")
    def download(self, target, source, n_bytes, stream):
        self.check_range(source, n_bytes)
        self.submit(stream, lambda: ctypes.memmove(target, source, n_bytes))

    @driver("cuMemcpyDtoDAsync_v2", "aazp")
    def copy(self, target, source, n_bytes, stream):
        self.check_range(target, n_bytes)
        self.check_range(source, n_bytes)
        if abs(target - source) < n_bytes:
            raise Misuse(1, "a copy onto itself")
        self.submit(stream, lambda: ctypes.memmove(target, source, n_bytes))

    @driver("cuMemsetD8Async", "abzp")
    def fill(self, target, byte, n_bytes, stream):
        self.check_range(target, n_bytes)
        self.submit(stream, lambda: ctypes.memset(target, byte, n_bytes))
