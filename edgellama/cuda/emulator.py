"""Runs CUDA kernels on this CPU, for tests: every thread of a block is a fiber of the calling thread.

The kernels are the same source, compiled for this host by build.py; addresses are this process's.
Linux with glibc only.
"""

import ctypes
import struct

import numpy as np

from ..compiler.cache import KernelObject
from .simt import emulated_layout as layout
from .simt.emulated_entry import FIBER_SUFFIX

SYMBOLS = ("getcontext", "makecontext", "swapcontext", "pow", "exp2", "exp2f", "sqrt", "cos", "sin", "sincos", "rintf")
SYMBOLS += ("fmaf", "memset", "memcpy", "memmove")
SHARED_ALIGNMENT = 128


class Emulator:
    """The kernels of one object. `seed`: another order of threads and blocks for each, 0 for that of their numbers.

    With a seed, asynchronous copies come as late as they may, else at once.
    """

    def __init__(self, item: KernelObject, seed: int = 0):
        import llvmlite.binding as llvm

        self.seed = seed
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        for library in (ctypes.CDLL("libm.so.6"), ctypes.CDLL("libc.so.6")):
            for name in SYMBOLS:
                if hasattr(library, name):
                    llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(item.data))
        self._engine.finalize_object()
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)
        self._run = run(self._engine.get_function_address("run_fibers"))

    def launch(self, name: str, n_blocks, n_threads: int, shared_bytes: int, arguments) -> None:
        """Run the kernel `name` to its end; `arguments` are ints and floats.

        Raises RuntimeError if it writes behind its shared memory.
        """
        x, y, z = n_blocks if isinstance(n_blocks, tuple) else (n_blocks, 1, 1)
        block = _Block(self._engine.get_function_address(name + FIBER_SUFFIX), n_threads, shared_bytes, arguments)
        block.delay_copies(self.seed != 0)
        numbers = np.arange(x * y * z)
        if self.seed:
            numbers = np.random.default_rng(self.seed).permutation(numbers)
        for number in numbers.tolist():
            block.run(self._run, (number % x, number // x % y, number // (x * y)), x, self.seed)
            if not block.is_shared_memory_intact():
                raise RuntimeError(f"{name} wrote behind its {shared_bytes} bytes of shared memory")


def _word(value: float) -> int:
    """An argument as it lies in a fiber's word."""
    return struct.unpack("<i", struct.pack("<f", value))[0] if isinstance(value, float) else int(value)


class _Block:
    """Memory of the fibers of one block, used for all blocks in turn."""

    def __init__(self, address: int, n_threads: int, shared_bytes: int, arguments):
        n_warps = -(-n_threads // layout.LANES)
        self.n_threads, self.shared_bytes = n_threads, shared_bytes
        self.fibers = np.zeros((n_threads, layout.FIBER_WORDS), np.int64)
        self.contexts = _aligned(n_threads * layout.CONTEXT_BYTES)
        self.stacks = _aligned(n_threads * layout.STACK_BYTES)
        self.scheduler = _aligned(layout.CONTEXT_BYTES)
        self.shared = _aligned(shared_bytes + SHARED_ALIGNMENT)
        self.barriers = np.zeros((1 + n_warps, 8), np.int64)
        self.exchange = _aligned(n_warps * layout.LANES * layout.EXCHANGE_BYTES)
        warps = np.arange(n_threads) // layout.LANES
        words = self.fibers.T
        words[layout.THREAD], words[layout.THREADS] = np.arange(n_threads), n_threads
        words[layout.SHARED] = self.shared.ctypes.data
        words[layout.BLOCK_BARRIER] = self.barriers.ctypes.data
        words[layout.WARP_BARRIER] = self.barriers.ctypes.data + 64 * (1 + warps)
        words[layout.EXCHANGE] = self.exchange.ctypes.data + layout.LANES * layout.EXCHANGE_BYTES * warps
        words[layout.ENTRY] = address
        for index, value in enumerate(arguments):
            words[layout.ARGUMENTS + index] = _word(value)

    def delay_copies(self, are_late: bool) -> None:
        """Whether asynchronous copies come when their thread waits for them, or at once."""
        self.queues = _aligned(are_late * self.n_threads * layout.QUEUE_BYTES)
        places = self.queues.ctypes.data + layout.QUEUE_BYTES * np.arange(self.n_threads)
        self.fibers[:, layout.QUEUE] = places if are_late else 0

    def run(self, run_fibers, place: tuple[int, int, int], n_blocks: int, seed: int) -> None:
        self.shared[:] = 0xFF  # what no thread has written is no number
        self.barriers[:] = 0
        words = self.fibers.T
        for index, value in zip((layout.BLOCK, layout.BLOCK_Y, layout.BLOCK_Z), place, strict=True):
            words[index] = value
        words[layout.BLOCKS] = n_blocks
        run_fibers(
            self.fibers.ctypes.data, self.n_threads, self.contexts.ctypes.data, self.stacks.ctypes.data,
            self.scheduler.ctypes.data, seed,
        )  # fmt: skip

    def is_shared_memory_intact(self) -> bool:
        """Whether what lies behind the shared memory is as it was."""
        return bool((self.shared[self.shared_bytes :] == 0xFF).all())


def _aligned(n_bytes: int) -> np.ndarray:
    memory = np.zeros(n_bytes + SHARED_ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % SHARED_ALIGNMENT
    return memory[start : start + n_bytes]
