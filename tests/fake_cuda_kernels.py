"""Modules and kernels of the fake GPUs: names, arguments and variables are read from the PTX, nothing is compiled."""

import ctypes
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fake_cuda_calls import Misuse, Result, driver, put
from fake_cuda_memory import Block

ARGUMENTS = {
    "u8": ctypes.c_uint8, "s8": ctypes.c_int8, "b8": ctypes.c_uint8, "u16": ctypes.c_uint16, "s16": ctypes.c_int16,
    "b16": ctypes.c_uint16, "u32": ctypes.c_uint32, "s32": ctypes.c_int32, "b32": ctypes.c_uint32,
    "u64": ctypes.c_uint64, "s64": ctypes.c_int64, "b64": ctypes.c_uint64, "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}  # fmt: skip
FREE_SHARED_BYTES = 48 << 10  # more has to be asked for
THREADS_PER_MULTIPROCESSOR, REGISTERS = 2048, 32

_KERNEL = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{")
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+[^,]*?[\w$]+(?:\[(\d+)\])?\s*(?:,|$)")
_VARIABLE = re.compile(
    r"^(?:\.(?:visible|weak|common)\s+)?\.global\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", re.MULTILINE
)


@dataclass
class FakeModule:
    kernels: dict[str, "FakeKernel"]
    variables: dict[str, Block]
    handles: list[int] = field(default_factory=list)


@dataclass
class FakeKernel:
    name: str
    parameters: list[tuple[Any, int]]  # type and count; arrays of bytes have one
    most_threads: int = 1024
    shared_bytes: int = FREE_SHARED_BYTES


class Launch(NamedTuple):
    name: str
    n_blocks: int | tuple[int, int, int]
    n_threads: int
    shared_bytes: int
    argument_values: tuple
    cooperative: bool
    overlap: bool


def kernels_of(ptx: str) -> dict[str, FakeKernel]:
    kernels = {}
    for name, parameters, directives in _KERNEL.findall(ptx):
        found = [(ARGUMENTS[kind], int(count or 0)) for kind, count in _PARAMETER.findall(parameters)]
        limit = re.search(r"\.maxntid\s+(\d+)", directives)
        kernels[name] = FakeKernel(name, found, int(limit[1]) if limit else 1024)
    return kernels


def variables_of(ptx: str) -> dict[str, Block]:
    sizes = {name: ctypes.sizeof(ARGUMENTS[kind]) * int(count or 1) for kind, name, count in _VARIABLE.findall(ptx)}
    return {name: Block(n_bytes, 256) for name, n_bytes in sizes.items()}


class Kernels:
    """`launches`: all that ran. `jit_failure`: a code and a log to refuse the next PTX with."""

    def __init__(self):
        self.launches: list[Launch] = []
        self.on_launch: Callable[..., object] = lambda *launch: None
        self.jit_failure: tuple[int, str] | None = None
        self.cubin_kernels: dict[str, FakeKernel] = {}

    @driver("cuModuleLoadDataEx", "ppupp")
    def load_module(self, out, image, n_options, options, values):
        names = (ctypes.c_int * n_options).from_address(options)
        given = dict(zip(names, (ctypes.c_uint64 * n_options).from_address(values), strict=True))
        if ctypes.string_at(image, 4) == b"\x7fELF":
            if not self.cubin_kernels:
                raise Result(209)
            module = FakeModule(dict(self.cubin_kernels), {})
        else:
            ptx = ctypes.string_at(image).decode()
            self._check_ptx(ptx, given)
            module = FakeModule(kernels_of(ptx), variables_of(ptx))
        put(out, ctypes.c_uint64, self.make("module", module))

    def _check_ptx(self, ptx: str, options: dict[int, int]) -> None:
        version = re.search(r"^\.version (\d+)\.(\d+)", ptx, re.MULTILINE)
        target = re.search(r"^\.target sm_(\d+)", ptx, re.MULTILINE)
        if not version or not target:
            raise Result(200)
        newest = (self.cuda_version // 1000 - 4, self.cuda_version % 1000 // 10)  # CUDA 12.4 reads PTX 8.4
        if (int(version[1]), int(version[2])) > newest:
            raise Result(222)
        if self.jit_failure:
            self._refuse(*self.jit_failure, options)
        if int(target[1]) > 10 * self.compute_capability[0] + self.compute_capability[1]:
            self._refuse(218, "ptxas fatal   : SM version is higher than default SM version assumed", options)

    def _refuse(self, code: int, log: str, options: dict[int, int]) -> None:
        if 5 in options:
            text = log.encode()[: options[6] - 1] + b"\0"
            ctypes.memmove(options[5], text, len(text))
        raise Result(code)

    @driver("cuModuleUnload", "p")
    def free_module(self, module):
        for handle in self.destroy("module", module).handles:
            del self._handles[handle]

    @driver("cuModuleGetFunction", "pps")
    def find_kernel(self, out, module, name):
        found = self.find("module", module)
        if name.decode() not in found.kernels:
            raise Result(500)
        handle = self.make("kernel", found.kernels[name.decode()])
        found.handles.append(handle)
        put(out, ctypes.c_uint64, handle)

    @driver("cuModuleGetGlobal_v2", "ppps")
    def find_variable(self, address, n_bytes, module, name):
        variables = self.find("module", module).variables
        if name.decode() not in variables:
            raise Result(500)
        put(address, ctypes.c_uint64, variables[name.decode()].address)
        put(n_bytes, ctypes.c_size_t, variables[name.decode()].n_bytes)

    @driver("cuFuncGetAttribute", "pip")
    def kernel_attribute(self, out, number, kernel):
        self.find("kernel", kernel)
        put(out, ctypes.c_int, {3: 0, 4: REGISTERS}[number])

    @driver("cuFuncSetAttribute", "pii")
    def set_kernel_attribute(self, kernel, number, value):
        if number != 8 or not 0 <= value <= self.attributes[97]:
            raise Result(1)
        self.find("kernel", kernel).shared_bytes = max(value, FREE_SHARED_BYTES)

    @driver("cuOccupancyMaxActiveBlocksPerMultiprocessor", "ppiz")
    def occupancy(self, out, kernel, n_threads, shared_bytes):
        self.find("kernel", kernel)
        put(out, ctypes.c_int, self._resident(n_threads, shared_bytes))

    def _resident(self, n_threads: int, shared_bytes: int) -> int:
        return min(THREADS_PER_MULTIPROCESSOR // n_threads, self.attributes[97] // max(shared_bytes, 1))

    @driver("cuLaunchKernel", "puuuuuuuppp")
    def launch_kernel(self, kernel, *rest):
        *shape, stream, parameters, _ = rest
        self._launch(kernel, shape, stream, parameters, {})

    @driver("cuLaunchCooperativeKernel", "puuuuuuupp")
    def launch_cooperative_kernel(self, kernel, *rest):
        *shape, stream, parameters = rest
        self._launch(kernel, shape, stream, parameters, {2: 1})

    @driver("cuLaunchKernelEx", "pppp")
    def launch_kernel_ex(self, config, kernel, parameters, extra):
        *shape, stream, attributes, count = struct.unpack_from("<7I4xQQI", ctypes.string_at(config, 56))
        data = ctypes.string_at(attributes, 72 * count) if count else b""
        self._launch(kernel, shape, stream, parameters, dict(struct.iter_unpack("<i4xi60x", data)))

    def _launch(self, handle: int, shape: list[int], stream: int, parameters: int, attributes: dict[int, int]) -> None:
        kernel, (*grid, n_threads, y, z, shared_bytes) = self.find("kernel", handle), shape
        if set(attributes) - {2, 6}:
            raise Misuse(1, f"attributes {attributes}")
        if (y, z) != (1, 1) or not 1 <= n_threads <= kernel.most_threads or min(grid) < 1 or max(grid[1:]) > 65535:
            raise Result(1)
        if shared_bytes > kernel.shared_bytes:
            raise Result(1)
        n_blocks = grid[0] if grid[1:] == [1, 1] else tuple(grid)
        together = self._resident(n_threads, shared_bytes) * self.attributes[16]
        if attributes.get(2) and grid[0] * grid[1] * grid[2] > together:
            raise Result(720)
        values = _values(kernel, parameters)
        launch = Launch(
            kernel.name, n_blocks, n_threads, shared_bytes, values, bool(attributes.get(2)), bool(attributes.get(6))
        )
        self.submit(stream, lambda: self._run(launch))

    def _run(self, launch: Launch) -> None:
        self.launches.append(launch)
        self.on_launch(*launch[:5])


def _values(kernel: FakeKernel, parameters: int | None) -> tuple:
    """Copied at the launch, as the driver does."""
    if not kernel.parameters:
        return ()
    if parameters is None:
        raise Misuse(1, f"{kernel.name} needs arguments")
    cells = (ctypes.c_uint64 * len(kernel.parameters)).from_address(parameters)
    return tuple(
        ctypes.string_at(cell, count) if count else kind.from_address(cell).value
        for cell, (kind, count) in zip(cells, kernel.parameters, strict=True)
    )
