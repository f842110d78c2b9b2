"""The CUDA interpreter: a Program's weights, buffers and cache on one GPU, and its launches.

A step of one token is a graph that was recorded once; the frame tells it token and position. Steps of more tokens are
launched kernel by kernel, as their sizes differ. Results come back through page-locked memory. A program may begin in
the middle of a model: then `entry` is the view that whoever computed the beginning gives rows of.
"""

from collections.abc import Callable, Iterator

import numpy as np

from .. import ops
from ..errors import EdgellamaError
from ..frame import Frame
from ..kv_cache import page_bytes
from ..placement import Placement
from ..program import FLOATS, Buffer, CacheSide, Program, View, Weight
from .device import Device
from .device_frame import DeviceFrame
from .kernel_set import KernelSet
from .lookahead import Lookahead
from .plan import GEMM_TOKENS, MATVEC_THREADS, Planner, part_bytes, split_at_logit_rows
from .steps import Counts, Places, Step, padded_columns
from .stream import Stream
from .weights import DeviceMatrix, allocate_all, load_all

MAX_TOKENS = 2048  # of a step: enough to keep all multiprocessors busy with every matrix
ALIGNMENT = 256
MATVEC_BLOCKS = 2  # of a multiprocessor, where they fit
Progress = Callable[[int, int], None]
Fill = Callable[[Device, Stream, dict[Weight, DeviceMatrix]], None]


class CudaMachine:
    """A Program ready to run on a GPU. `frame` is filled by the caller; run() gives the logits.

    `fill` writes the matrices, which come from the file by default. Raises EdgellamaError, and frees everything, if the
    GPU cannot hold the model.
    """

    def __init__(
        self, kernels, program: Program, frame: Frame, n_pages: int, device_index: int = 0,
        progress: Progress | None = None, fill: Fill | None = None, entry: View | None = None,
    ):  # fmt: skip
        self.kernels, self.program, self.frame, self.entry = kernels, program, frame, entry
        self._is_cancelled, self.last_choice = False, 0
        self.device = Device(device_index)
        try:
            self.stream = self.device.stream()
            self.kernel_set = KernelSet(self.device)
            self._allocate(n_pages)
            if fill:
                fill(self.device, self.stream, self.matrices)
            else:
                load_all(self.device, self.stream, self.kernel_set, self.matrices, progress)
            self._plan()
            self.stream.synchronize()
        except BaseException:
            self.device.close()
            raise

    def run(self) -> np.ndarray | None:
        """Run the frame; float32 (n_rows, vocab), valid until the next run, or None if cancel() was called."""
        n_rows = self.frame.n_rows
        if not self._run(self._head):
            return None
        logits = self._logits.array[: 4 * n_rows * self.program.logits.width].view(np.float32)
        return logits.reshape(n_rows, -1)

    def run_likeliest(self) -> int | None:
        """Run a frame of one token; the id of its highest logit, the first of equals, or None as run().

        The GPU goes on with that token by itself, so a loop of these is faster than one of run().
        """
        if self._take_cancel():
            return None
        self.last_choice = self._lookahead.next()
        return None if self._take_cancel() else self.last_choice

    def run_hidden(self) -> np.ndarray | None:
        """Run the frame as far as the output matrix; float32 (n_rows, d_model), what it would be applied to."""
        if not self._run(self._hidden_head):
            return None
        n_rows = self.frame.n_rows
        return self._logits.array[: 4 * n_rows * self.program.hidden.width].view(np.float32).reshape(n_rows, -1)

    def give(self, rows: np.ndarray) -> None:
        """float32 (n_tokens, width) for the entry, before run(). The run before must have ended."""
        staged = self._entry_rows.array[: rows.nbytes].view(np.float32).reshape(rows.shape)
        np.copyto(staged, rows)
        self.stream.upload(self._address(self.entry), staged)

    def cancel(self) -> None:
        """Make the present run, or else the next, end without a result; from any thread."""
        self._is_cancelled = True

    def place(self, prefill: Placement, decode: Placement | None = None) -> None:
        """Threads of the CPU do not matter here."""

    def cache_page(self, page: int) -> Iterator[np.ndarray]:
        """The bytes of one page as arrays that may be written: keys and values of each layer in turn."""
        sizes = page_bytes(self.program.attention)
        for side, memory in self._cache.items():
            size = sizes[side.side]
            array, address = np.empty(size, np.uint8), memory.address + page * size
            self.stream.download(array, address)
            self.stream.synchronize()
            before = array.copy()
            yield array
            if not np.array_equal(before, array):
                self.stream.upload(address, array)
                self.stream.synchronize()

    def close(self) -> None:
        """Free the GPU's memory."""
        self.device.close()

    # What a run is made of.

    def _run(self, finish: Callable[[], None]) -> bool:
        if self._take_cancel():
            return False
        self._lookahead.forget()
        if self.frame.n_tokens == 1 and self.frame.n_rows == 1 and finish == self._head:
            self._one_frame.send(self.stream)
            self._graph.launch(self.stream)
        else:
            self._many_frame.send(self.stream)
            self._launch(self.steps_for_many)
            finish()
        self.stream.synchronize()
        return not self._take_cancel()

    def _take_cancel(self) -> bool:
        is_cancelled, self._is_cancelled = self._is_cancelled, False
        return is_cancelled

    def _head(self) -> None:
        """Logits of the rows that are wanted."""
        n_rows = self.frame.n_rows
        if n_rows:
            self._launch(self._gather_steps)
            self._launch(self._one_row_head if n_rows == 1 else self._many_rows_head)
            self._download(self._address(self.program.logits), n_rows * self.program.logits.width)

    def _hidden_head(self) -> None:
        self._launch(self._gather_steps)
        self._launch(self._hidden_steps)
        self._download(self._hidden.address, self.frame.n_rows * self.program.hidden.width)

    def _download(self, address: int, n_values: int) -> None:
        self.stream.download(self._logits.array[: 4 * n_values], address)

    def _launch(self, steps: list[Step]) -> None:
        self.launch(steps, Counts(self.frame.n_tokens, self.frame.n_rows, self._many_frame.n_tiles))

    def _launch_one(self) -> None:
        self.launch(self.steps_for_one, Counts(1, 1, 1))

    def launch(self, steps: list[Step], counts: Counts) -> None:
        """Give these steps to the stream; bench measures them one by one."""
        for step in steps:
            if step.needed(counts):
                step.count(counts)
                function, blocks = self.kernel_set.function(step.kernel), step.blocks(counts)
                self.stream.launch(function, blocks, step.n_threads, step.arguments, step.shared_bytes, overlap=True)

    # How it comes about.

    def _allocate(self, n_pages: int) -> None:
        device, program, frame = self.device, self.program, self.frame
        self.matrices: dict[Weight, DeviceMatrix] = allocate_all(device, program)
        self._cache = {}
        sizes = page_bytes(program.attention)
        for side in _cache_sides(program):
            self._cache[side] = device.allocate(n_pages * sizes[side.side])
        for memory in self._cache.values():
            self.stream.fill(memory.address, 0, memory.n_bytes)
        self._constants = {constant: self._upload(constant.values) for constant in program.constants()}
        self._buffers = self._allocate_buffers()
        columns = max(padded_columns(matrix.n_columns) for matrix in self.matrices.values())
        n_rows = -(-max(frame.max_tokens, frame.max_rows) // GEMM_TOKENS) * GEMM_TOKENS
        self._halves = device.allocate(2 * n_rows * columns)
        self._powers = device.allocate(4 * n_rows)
        pages_per_slot = frame.page_table.shape[1]
        self._parts = device.allocate(part_bytes(program, device.n_multiprocessors, pages_per_slot))
        self._counters = device.allocate(4 * 64 * program.attention.n_kv_heads)
        self.stream.fill(self._counters.address, 0, self._counters.n_bytes)
        self._hidden = device.allocate(4 * frame.max_rows * program.hidden.width)
        self._logits = device.pinned(4 * frame.max_rows * max(program.logits.width, program.hidden.width))
        if self.entry:
            self._entry_rows = device.pinned(4 * frame.max_tokens * self.entry.width)
        self._one_frame = DeviceFrame(device, frame, 1, 1)
        self._many_frame = DeviceFrame(device, frame, frame.max_tokens, frame.max_rows)

    def _allocate_buffers(self) -> dict[Buffer, int]:
        """Those of floats; the GPU needs no others. All in one piece of memory."""
        buffers = [item for item in self.program.buffers() if item.kind == FLOATS]
        ends, end = {}, 0
        for item in buffers:
            n_rows = self.frame.max_tokens if item.extent == ops.TOKENS else self.frame.max_rows
            ends[item] = end
            end += -(-4 * item.width * n_rows // ALIGNMENT) * ALIGNMENT
        memory = self.device.allocate(end)
        self.stream.fill(memory.address, 0xFF, end)
        return {item: memory.address + start for item, start in ends.items()}

    def _upload(self, array: np.ndarray) -> int:
        memory = self.device.allocate(array.nbytes)
        self.stream.upload(memory.address, np.ascontiguousarray(array))
        self.stream.synchronize()
        return memory.address

    def _address(self, view: View) -> int:
        return self._buffers[view.buffer] + 4 * view.start

    def _places(self, frame: DeviceFrame) -> Places:
        return Places(
            self._buffers, self.matrices, self._constants, {side: item.address for side, item in self._cache.items()},
            frame.addresses, self.frame.page_table.shape[1], self._halves.address, self._powers.address,
            self._parts.address, self._counters.address, self.device.n_multiprocessors, self._matvec_blocks,
        )  # fmt: skip

    def _matvec_blocks(self, kernel: str, shared_bytes: int) -> int:
        """Blocks of a product with one row that run at once."""
        function = self.kernel_set.function(kernel)
        self._check_shared_memory(kernel, shared_bytes)
        function.set_shared_bytes(shared_bytes)
        per_multiprocessor = function.max_blocks(MATVEC_THREADS, shared_bytes)
        return min(MATVEC_BLOCKS, per_multiprocessor) * self.device.n_multiprocessors

    def _plan(self) -> None:
        body, head = split_at_logit_rows(self.program)
        one = Planner(self.program, self._places(self._one_frame), is_one=True)
        self.steps_for_one = one.plan(self.program.ops)
        many = Planner(self.program, self._places(self._many_frame), is_one=False)
        self.steps_for_many = many.plan(body)
        n_gathers = sum(op.spec is ops.GATHER for op in head)
        self._gather_steps = many.plan(head[:n_gathers])
        self._many_rows_head = many.plan(head[n_gathers:])
        self._hidden_steps = many.hidden_rows(self.program.hidden, self._hidden.address)
        one_row = Planner(self.program, self._places(self._many_frame), is_one=True)
        self._one_row_head = one_row.plan(head[n_gathers:])
        self._raise_shared_memory()
        with self.stream.capture() as self._graph:
            self._launch_one()
            self._download(self._address(self.program.logits), self.program.logits.width)
        logits = self.program.logits
        self._lookahead = Lookahead(
            self.device, self.stream, self.kernel_set, self.frame, self._one_frame, self._address(logits), logits.width,
            self._launch_one,
        )  # fmt: skip

    def _check_shared_memory(self, kernel: str, n_bytes: int) -> None:
        most = self.device.shared_bytes_per_block
        if n_bytes > most:
            raise EdgellamaError(
                f"{self.device.name} has {most:,} bytes of shared memory for a block of threads, and {kernel} needs"
                f" {n_bytes:,} for this model: use --device cpu"
            )

    def _raise_shared_memory(self) -> None:
        """Tell the driver the most that each kernel will be launched with."""
        most: dict[str, int] = {}
        for step in (*self.steps_for_one, *self.steps_for_many, *self._one_row_head, *self._many_rows_head):
            most[step.kernel] = max(step.shared_bytes, most.get(step.kernel, 0))
        for kernel, n_bytes in most.items():
            self._check_shared_memory(kernel, n_bytes)
            self.kernel_set.function(kernel).set_shared_bytes(n_bytes)


def _cache_sides(program: Program) -> list[CacheSide]:
    """The keys and values that the program's layers keep, in the order of the layers."""
    operands = (operand for op in program.ops for operand in op.operands.values() if isinstance(operand, CacheSide))
    return list(dict.fromkeys(operands))
