"""A model too large for the GPU: the CPU has the embedding and the first layers, the GPU the others and the output.

One program for each, cut where a layer begins: there the residual stream is all that passes from one to the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .. import ops
from ..cpu.machine import CpuMachine
from ..frame import Frame
from ..kv_cache import page_bytes
from ..placement import Placement
from ..program import Op, Program, View
from .device import Device
from .machine import CudaMachine
from .weights import device_bytes

Progress = Callable[[int, int], None]
KEPT_BYTES = 512 << 20  # of the GPU's memory for the driver, the kernels and other programs


def residual(program: Program) -> View:
    """The view that every layer adds to."""
    return next(op.operands["out"] for op in program.ops if op.spec is ops.EMBED)


def layer_start(program: Program, layer: int) -> int:
    """The number of the first op that belongs to a layer: the one after the last that changed the residual stream."""
    x = residual(program)
    cached = next(index for index, op in enumerate(program.ops) if _layer_of(op) == layer)
    return 1 + max(index for index, op in enumerate(program.ops[:cached]) if x in op.touched("w"))


def _layer_of(op: Op) -> int | None:
    return op.operands["keys"].layer if op.spec is ops.ROPE_STORE else None


def first_part(program: Program, n_layers: int) -> Program:
    """The embedding and n_layers layers; what it makes is the residual stream."""
    x = residual(program)
    return replace(program, ops=program.ops[: layer_start(program, n_layers)], logits=x, hidden=x)


def last_part(program: Program, first_layer: int) -> Program:
    """The layers from the first on, and the output; it starts from the residual stream."""
    start = layer_start(program, first_layer)
    tables = [op for op in program.ops[:start] if op.spec is ops.ROPE_TABLE]
    return replace(program, ops=[*tables, *program.ops[start:]])


def layers_that_fit(program: Program, n_pages: int, max_tokens: int, device_index: int) -> int:
    """How many of the last layers, with the output, fit into the GPU's free memory; all of them if all do."""
    with Device(device_index) as device:
        free = device.free_bytes() - KEPT_BYTES
    if _bytes_on_gpu(program, n_pages, max_tokens, program.n_layers) <= free:
        return program.n_layers
    layers = range(program.n_layers - 1, 0, -1)
    return next((n for n in layers if _bytes_on_gpu(program, n_pages, max_tokens, n) <= free), 0)


def _bytes_on_gpu(program: Program, n_pages: int, max_tokens: int, n_layers: int) -> int:
    """About what a machine of the last n_layers takes there."""
    part = program if n_layers == program.n_layers else last_part(program, program.n_layers - n_layers)
    weights = sum(map(device_bytes, part.weights()))
    cache = n_layers * n_pages * sum(page_bytes(program.attention))
    buffers = sum(4 * item.width for item in part.buffers() if not item.private) * max_tokens
    widest = max(weight.n_columns for weight in part.weights())
    return weights + cache + buffers + 2 * widest * max_tokens


class HybridMachine:
    """Two machines that run a frame one after the other, seen as one. Programs are the whole model's, one for each.

    Raises EdgellamaError, and frees everything, if either cannot be made.
    """

    def __init__(
        self, kernels, cpu_program: Program, gpu_program: Program, gpu_layers: int, frame: Frame, n_pages: int,
        threads: int | None, device_index: int = 0, progress: Progress | None = None,
    ):  # fmt: skip
        self.kernels, self.program, self.frame = kernels, cpu_program, frame
        n_first = cpu_program.n_layers - gpu_layers
        self._n_first = n_first
        self.gpu = CudaMachine(
            kernels, last_part(gpu_program, n_first), frame, n_pages, device_index, progress,
            entry=residual(gpu_program),
        )  # fmt: skip
        try:
            self.cpu = CpuMachine(kernels, first_part(cpu_program, n_first), frame, n_pages, threads, progress)
        except BaseException:
            self.gpu.close()
            raise

    def run(self) -> np.ndarray | None:
        """As CudaMachine.run."""
        return self.gpu.run() if self._begin() else None

    def run_hidden(self) -> np.ndarray | None:
        """As CudaMachine.run_hidden."""
        return self.gpu.run_hidden() if self._begin() else None

    def _begin(self) -> bool:
        """The CPU's part of the frame, and its way to the GPU."""
        if not self.cpu.run_part(0, len(self.cpu.program.ops)):
            return False
        self.gpu.give(self.cpu.rows(self.cpu.program.hidden))
        return True

    def cancel(self) -> None:
        """Make the present run, or else the next, end without a result; from any thread."""
        self.cpu.cancel()

    def place(self, prefill: Placement, decode: Placement | None = None) -> None:
        """Where the CPU's part runs."""
        self.cpu.place(prefill, decode)

    def cache_page(self, page: int) -> Iterator[np.ndarray]:
        """As CudaMachine.cache_page, of all layers."""
        for index, array in enumerate(self.cpu.cache_page(page)):
            if index < 2 * self._n_first:
                yield array
        yield from self.gpu.cache_page(page)

    def close(self) -> None:
        """End the CPU's threads and free the GPU's memory."""
        self.cpu.close()
        self.gpu.close()
