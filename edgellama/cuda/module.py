"""Kernels that were compiled before: PTX, which the driver compiles for its GPU, or a cubin, which is for one kind."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING

from ..errors import EdgellamaError
from .library import CudaError, cuda_error
from .resource import Resource

if TYPE_CHECKING:
    from .device import Device

# CUfunction_attribute and CUjit_option of cuda.h.
_LOCAL_SIZE_BYTES, _NUM_REGS, _MAX_DYNAMIC_SHARED_SIZE_BYTES = 3, 4, 8
_JIT_ERROR_LOG_BUFFER, _JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 5, 6
_LOG_BYTES = 16 << 10
_SHOWN_LOG_CHARACTERS = 600


class Function:
    """A kernel. `registers` and `local_bytes` (stack and spilled registers) are per thread."""

    def __init__(self, module: Module, name: str):
        handle = ctypes.c_void_p()
        library = module.device.library
        doing = f"finding the kernel {name}"
        library.call("cuModuleGetFunction", ctypes.byref(handle), module.handle, name.encode(), doing=doing)
        self.device, self.name = module.device, name
        self._handle = handle.value
        self.registers = self._attribute(_NUM_REGS)
        self.local_bytes = self._attribute(_LOCAL_SIZE_BYTES)

    @property
    def handle(self) -> int:
        if self._handle is None:
            raise EdgellamaError(f"the kernel {self.name} was used after its module had been freed")
        return self._handle

    def set_shared_bytes(self, n_bytes: int) -> None:
        """Allow launches with so much dynamic shared memory; up to 48 KiB needs no leave."""
        self.device.make_current()
        most = self.device.shared_bytes_per_block
        doing = f"giving the kernel {self.name} {n_bytes:,} bytes of shared memory (the GPU has {most:,} per block)"
        library = self.device.library
        library.call("cuFuncSetAttribute", self.handle, _MAX_DYNAMIC_SHARED_SIZE_BYTES, n_bytes, doing=doing)

    def max_blocks(self, n_threads: int, shared_bytes: int = 0) -> int:
        """How many blocks of this size one multiprocessor runs at once; 0 if not even one fits.

        Beyond 48 KiB of shared memory only after `set_shared_bytes`.
        """
        self.device.make_current()
        count = ctypes.c_int()
        name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
        self.device.library.call(name, ctypes.byref(count), self.handle, n_threads, shared_bytes)
        return count.value

    def forget(self) -> None:
        """The module is gone, and the handle with it."""
        self._handle = None

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self.device.library.call("cuFuncGetAttribute", ctypes.byref(value), number, self.handle)
        return value.value


class Module(Resource):
    """Loaded kernels, by name. Raises CudaError with what the driver's compiler says."""

    KIND, RELEASE = "a module", "cuModuleUnload"

    def __init__(self, device: Device, image: bytes):
        handle, log = ctypes.c_void_p(), ctypes.create_string_buffer(_LOG_BYTES)
        options = (ctypes.c_int * 2)(_JIT_ERROR_LOG_BUFFER, _JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
        text = image + b"\0"  # PTX ends with a zero; a cubin knows its length
        code = device.library.cuModuleLoadDataEx(ctypes.byref(handle), text, 2, options, values)
        if code:
            raise _load_error(code, device, image, log.value)
        self._functions: dict[str, Function] = {}
        super().__init__(device, handle.value or 0)

    def function(self, name: str) -> Function:
        """The same object each time."""
        if name not in self._functions:
            self.device.make_current()
            self._functions[name] = Function(self, name)
        return self._functions[name]

    def global_address(self, name: str) -> tuple[int, int]:
        """Address and size in bytes of a variable in the GPU's memory."""
        self.device.make_current()
        address, n_bytes = ctypes.c_uint64(), ctypes.c_size_t()
        where = ctypes.byref(address), ctypes.byref(n_bytes), self.handle, name.encode()
        self.device.library.call("cuModuleGetGlobal_v2", *where, doing=f"finding the variable {name}")
        return address.value, n_bytes.value

    def free(self) -> None:
        for function in self._functions.values():
            function.forget()
        self._functions.clear()
        super().free()


def _load_error(code: int, device: Device, image: bytes, log: bytes) -> CudaError:
    version, capability = (".".join(map(str, pair)) for pair in (device.driver_version, device.compute_capability))
    gpu = f"the driver is for CUDA {version} and the GPU has compute capability {capability}"
    lines = " / ".join(filter(None, map(str.strip, log.decode(errors="replace").splitlines())))
    said = f"; its compiler says: {lines[:_SHOWN_LOG_CHARACTERS]}" if lines else ""
    return cuda_error(code, f"loading kernels ({_description(image)})", gpu + said)


def _description(image: bytes) -> str:
    """Such as "PTX 7.4 for sm_75"."""
    version = re.search(rb"^\s*\.version\s+([\d.]+)", image, re.MULTILINE)
    target = re.search(rb"^\s*\.target\s+(\w+)", image, re.MULTILINE)
    if image.startswith(b"\x7fELF") or not version:
        return f"{len(image):,} bytes of machine code"
    return f"PTX {version[1].decode()} for {target[1].decode() if target else 'any GPU'}"
