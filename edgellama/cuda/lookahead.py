"""Steps that choose their own next token: the GPU goes on while the host still looks at the token before.

Each step ends with the likeliest token in its frame, advanced by one position, so the next can be given to the GPU
before the host knows the token. Where the host asks for what the GPU went on with, it finds it done or under way;
otherwise the steps ahead were in vain: they wrote to cache rows that a later step writes again.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from ..frame import PAGE_POSITIONS, Frame
from .device import Device
from .device_frame import DeviceFrame
from .kernel_set import KernelSet
from .launch import Arguments
from .stream import Event, Stream

AHEAD = 2  # steps that the GPU has been given beyond the one that is waited for
RING = 64  # tokens
THREADS = 256


class Lookahead:
    """`launch_step` gives the stream one step of `device_frame`, whose logits, n_logits of them, are at `logits`."""

    def __init__(
        self, device: Device, stream: Stream, kernels: KernelSet, frame: Frame, device_frame: DeviceFrame,
        logits: int, n_logits: int, launch_step: Callable[[], None],
    ):  # fmt: skip
        self._stream, self._frame, self._device_frame = stream, frame, device_frame
        self._ring = device.pinned(4 * RING)
        self._tokens = self._ring.array.view(np.int32)
        n_blocks = min(device.n_multiprocessors, -(-n_logits // THREADS))
        self._state = device.allocate(8 + 8 * n_blocks)  # counter of blocks, number of the step, what blocks found
        self._arguments = self._choose_arguments(logits, n_logits)
        with stream.capture() as self._graph:
            launch_step()
            function = kernels.function("choose_likeliest")
            stream.launch(function, n_blocks, THREADS, self._arguments, 256, overlap=True)
        self._free = [device.event() for _ in range(AHEAD + 1)]
        self._running: deque[Event] = deque()
        self.forget()

    def _choose_arguments(self, logits: int, n_logits: int) -> Arguments:
        places, state = self._device_frame.addresses, self._state.address
        frame = [places[name] for name in ("token_ids", "positions", "cache_rows", "visible", "next_pages")]
        most = self._frame.page_table.shape[1] * PAGE_POSITIONS
        values = [logits, n_logits, state + 8, state, *frame, self._ring.device_address, RING, state + 4, most]
        return Arguments(*(("i64", value) for value in values))

    def forget(self) -> None:
        """What the GPU went on with is of no interest any more; call it before any other step."""
        self._free += self._running
        self._running.clear()
        self._expected: tuple[int, int, int] | None = None
        self._n_given = self._n_taken = 0
        self._limit = 0

    def next(self) -> int:
        """The likeliest token after the frame's only one."""
        frame = self._frame
        token, position, slot = int(frame.token_ids[0]), int(frame.positions[0]), int(frame.slots[0])
        if self._expected != (token, position, slot) or position >= self._limit:
            self._begin(position, slot)
        while len(self._running) <= AHEAD and self._first + self._n_given < self._limit:
            self._graph.launch(self._stream)
            event = self._free.pop()
            self._stream.record(event)
            self._running.append(event)
            self._n_given += 1
        event = self._running.popleft()
        event.synchronize()
        self._free.append(event)
        chosen = int(self._tokens[self._n_taken % RING])
        self._n_taken += 1
        self._expected = (chosen, position + 1, slot)
        return chosen

    def _begin(self, position: int, slot: int) -> None:
        self.forget()
        self._stream.synchronize()
        self._device_frame.send(self._stream)
        self._stream.fill(self._state.address, 0, 8)
        self._first = position
        pages = self._frame.page_table[slot]
        missing = np.flatnonzero(pages < 0)
        self._limit = PAGE_POSITIONS * int(missing[0] if len(missing) else len(pages))
