"""CUDA kernels on this CPU: the emulator with guarded memory, matrices packed for it, and a fake GPU that runs them."""

import platform
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_harness import Guarded

from edgellama import formats, fp8
from edgellama.cuda import images, plan
from edgellama.cuda.emulator import Emulator
from edgellama.cuda.weights import FORMATS
from edgellama.simd.detect import chosen_isa
from edgellama.simd.target import TARGETS

INTEGER_KINDS = [kind for kind, form in FORMATS.items() if form.is_integer]
FLOAT_KINDS = [kind for kind, form in FORMATS.items() if not form.is_integer]
KINDS = [*INTEGER_KINDS, *FLOAT_KINDS]
ORDERS = (1, 7, 12345)  # seeds of the threads' order
N_THREADS = {
    "matvec": plan.MATVEC_THREADS, "gated": plan.MATVEC_THREADS, "gemm": plan.GEMM_THREADS, "embed": 128,
    "rope_table": 128, "attention_decode": plan.ATTENTION_THREADS, "attention_prefill": plan.PREFILL_THREADS,
}  # fmt: skip


def why_not_here() -> str:
    """What this host lacks for the emulation, or nothing."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return "the emulation of CUDA threads needs Linux on x86-64 with glibc"
    if "f16c" not in TARGETS[chosen_isa()].required:
        return "the emulation of CUDA threads needs the conversions of F16C"
    return ""


def load_emulator() -> Emulator:
    """The kernels, compiled for this CPU: about a minute of one core where the cache does not have them yet."""
    if reason := why_not_here():
        pytest.skip(reason)
    return Emulator(images.load_image("emulated"))


class Gpu:
    """Launches single kernels. Arguments are numbers, Guarded memory, which is checked after, or None for 0."""

    def __init__(self, emulator: Emulator):
        self.emulator = emulator

    def run(self, name: str, n_blocks, *arguments, shared_bytes: int = 0, order: int = 0) -> None:
        kind = next((kind for kind in N_THREADS if name.startswith(kind)), "")
        self.emulator.seed = order
        values = [_value(argument) for argument in arguments]
        self.emulator.launch(name, n_blocks, N_THREADS.get(kind, 256), shared_bytes, values)
        for argument in arguments:
            if isinstance(argument, Guarded):
                argument.check()


def _value(argument) -> float:
    if isinstance(argument, Guarded):
        return argument.address
    return 0 if argument is None else argument


def words(values) -> Guarded:
    """int32 in guarded memory."""
    return Guarded.of(np.asarray(values, np.int32))


def floats(values) -> Guarded:
    """float32 in guarded memory."""
    return Guarded.of(np.asarray(values, np.float32))


def random_rows(kind: str, n_rows: int, n_columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows as a file has them, uint8 (n_rows, row bytes), and for FP8 scales (n_rows, runs of 128 columns)."""
    random = np.random.default_rng(seed)
    if kind.startswith("fp8"):
        finite = np.flatnonzero(np.isfinite(fp8.values(kind[4:]))).astype(np.uint8)
        codes = random.choice(finite, (n_rows, n_columns))
        return codes, random.uniform(0.001, 0.02, (n_rows, -(-n_columns // fp8.BLOCK))).astype(np.float32)
    block_format = formats.by_name(kind)
    if block_format.block_values == 1:
        return block_format.encode(random.standard_normal((n_rows, n_columns), dtype=np.float32)), None
    data = random.integers(0, 256, (n_rows, block_format.row_bytes(n_columns)), dtype=np.uint8)
    blocks = data.reshape(-1).view(block_format.dtype)
    for name in {"scale", "minimum_scale"} & set(block_format.dtype.names):
        blocks[name] = random.uniform(-0.02, 0.02, len(blocks))
    return data, None


def decoded(kind: str, rows: np.ndarray, scales: np.ndarray | None, n_columns: int) -> np.ndarray:
    """What the rows stand for, float32 (n_rows, n_columns)."""
    if scales is None:
        return formats.by_name(kind).decode_rows(rows, n_columns)
    return fp8.values(kind[4:])[rows] * np.repeat(scales, fp8.BLOCK, axis=1)[:, :n_columns]


class Matrix:
    """Random `rows` of a kind on the emulated GPU, put there by its pack kernel; `values`: what they stand for."""

    def __init__(self, gpu: Gpu, kind: str, n_rows: int, n_columns: int, seed: int = 0, order: int = 0):
        self.kind, self.n_rows, self.n_columns = kind, n_rows, n_columns
        self.n_blocks = -(-n_columns // 32)
        self.rows, scales = random_rows(kind, n_rows, n_columns, seed)
        self.values = decoded(kind, self.rows, scales, n_columns)
        self._allocate(scales)
        self.put(gpu, self.rows, order=order)

    def _allocate(self, scales: np.ndarray | None) -> None:
        form, n = FORMATS[self.kind], self.n_rows * self.n_blocks
        self.codes, self.scales, self.extras, self.run = Guarded(form.codes * n, np.uint8), None, None, 0
        if form.scales:
            self.scales = Guarded(form.scales * n, np.uint8)
        if form.extras:
            self.extras, self.run = Guarded(form.extras * n + form.head_bytes * (n // 8), np.uint8), form.extras * n
        if scales is not None:
            self.scales, self.extras, self.run = floats(scales), scales.shape[1], fp8.BLOCK // 32

    @property
    def arguments(self) -> tuple:
        return self.codes, self.scales, self.extras, self.run

    def put(self, gpu: Gpu, rows: np.ndarray, first: int = 0, step: int = 1, order: int = 0) -> None:
        """Pack rows of a file to the rows first, first + step, ... of this matrix."""
        form = FORMATS[self.kind]
        sizes = (len(rows), self.n_columns, rows.shape[1], first, step)
        source = Guarded.of(rows)
        if form.is_integer:
            gpu.run(f"pack_{self.kind}", 3, *self.arguments, source, *sizes, order=order)
        else:
            gpu.run("pack_plain", 3, *self.arguments, source, *sizes, form.codes // 16, order=order)

    def bytes(self) -> list[bytes]:
        """The planes, to compare."""
        return [plane.check().tobytes() for plane in self.arguments if isinstance(plane, Guarded)]


def width_of(kind: str, n: int) -> int:
    """A row's width near n columns that the kind allows."""
    block_values = 4 if kind.startswith("fp8") else formats.by_name(kind).block_values
    return -(-n // block_values) * block_values


def open_model(path, device: str, context: int = 512, n_sequences: int = 2, kv_type: str = "f16"):
    """What load() makes, on one device."""
    from edgellama import load

    return load(path, device, threads=1, context=context, kv_type=kv_type, sequences=n_sequences - 1)


def small_model(path: Path, type_name: str, n_layers: int, n_heads: int = 4) -> Path:
    """Random weights in the least sizes that all formats can have."""
    from bench.synthesize import Shape, synthesize

    return synthesize(
        Shape("small", 256, n_layers, n_heads, max(1, n_heads // 2), 256, 300, tied=False), type_name, path
    )


def exact_logits(path, ids: list[int]) -> np.ndarray:
    """Of every position, by the reference interpreter without rounding of activations."""
    from edgellama.reference import ReferenceMachine

    with open_model(path, "cpu") as model:
        model.pages.reserve(0, len(ids))
        model.frame.fill(ids, np.arange(len(ids)), np.zeros(len(ids), int), np.arange(len(ids)))
        return ReferenceMachine(model.machine.program, model.frame, quantize_activations=False).run()
