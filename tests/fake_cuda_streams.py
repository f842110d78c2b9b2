"""Streams, events and graphs of the fake GPUs. Work is done at once, or recorded as a function to be called later."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fake_cuda_calls import Misuse, Result, driver, put


@dataclass
class FakeStream:
    recorded: list[Callable[[], object]] | None = None  # while a graph is recorded
    is_spoiled: bool = False


@dataclass
class FakeEvent:
    seconds: float | None = None
    is_captured: bool = False


@dataclass
class FakeGraph:
    nodes: list[Callable[[], object]] = field(default_factory=list)


class Streams:
    def submit(self, handle: int | None, work: Callable[[], object]) -> None:
        stream = self.find("stream", handle)
        if stream.recorded is None:
            work()
        else:
            stream.recorded.append(work)

    def _idle(self, handle: int | None) -> FakeStream:
        """A stream that records no graph: waiting for one that does is refused, and spoils the graph."""
        stream = self.find("stream", handle)
        if stream.recorded is not None:
            stream.is_spoiled = True
            raise Result(900)
        return stream

    @driver("cuStreamCreate", "pu")
    def make_stream(self, out, flags):
        put(out, ctypes.c_uint64, self.make("stream", FakeStream()))

    @driver("cuStreamDestroy_v2", "p")
    def free_stream(self, stream):
        self.destroy("stream", stream)

    @driver("cuStreamSynchronize", "p")
    def synchronize_stream(self, stream):
        self._idle(stream)

    @driver("cuStreamWaitEvent", "ppu")
    def wait_for_event(self, stream, event, flags):
        self.find("stream", stream)
        self.find("event", event)

    @driver("cuEventCreate", "pu")
    def make_event(self, out, flags):
        put(out, ctypes.c_uint64, self.make("event", FakeEvent()))

    @driver("cuEventDestroy_v2", "p")
    def free_event(self, event):
        self.destroy("event", event)

    @driver("cuEventRecord", "pp")
    def record_event(self, event, stream):
        found = self.find("event", event)
        found.is_captured = self.find("stream", stream).recorded is not None
        found.seconds = None if found.is_captured else time.perf_counter()

    def _event(self, handle: int | None) -> FakeEvent:
        event = self.find("event", handle)
        if event.is_captured:
            raise Result(907)
        return event

    @driver("cuEventQuery", "p")
    def query_event(self, event):
        self._event(event)

    @driver("cuEventSynchronize", "p")
    def synchronize_event(self, event):
        self._event(event)

    @driver("cuEventElapsedTime", "ppp")
    def elapsed_time(self, out, start, end):
        first, second = self._event(start).seconds, self._event(end).seconds
        if first is None or second is None:
            raise Result(400)
        put(out, ctypes.c_float, (second - first) * 1000)

    @driver("cuStreamBeginCapture_v2", "pi")
    def begin_capture(self, stream, mode):
        if mode not in (0, 1, 2):
            raise Misuse(1, f"capture mode {mode}")
        found = self.find("stream", stream)
        if found.recorded is not None:
            raise Result(401)
        found.recorded, found.is_spoiled = [], False

    @driver("cuStreamEndCapture", "pp")
    def end_capture(self, stream, out):
        found = self.find("stream", stream)
        nodes, found.recorded = found.recorded, None
        if nodes is None:
            raise Result(401)
        if found.is_spoiled:
            put(out, ctypes.c_uint64, 0)
            raise Result(901)
        put(out, ctypes.c_uint64, self.make("graph", FakeGraph(nodes)))

    @driver("cuGraphGetNodes", "ppp")
    def graph_nodes(self, graph, nodes, count):
        if nodes is not None:
            raise Misuse(1, "only the number of nodes can be asked for here")
        put(count, ctypes.c_size_t, len(self.find("graph", graph).nodes))

    @driver("cuGraphInstantiateWithFlags", "ppl")
    def instantiate_graph(self, out, graph, flags):
        put(out, ctypes.c_uint64, self.make("executable graph", FakeGraph(list(self.find("graph", graph).nodes))))

    @driver("cuGraphDestroy", "p")
    def free_graph(self, graph):
        self.destroy("graph", graph)

    @driver("cuGraphExecDestroy", "p")
    def free_executable_graph(self, graph):
        self.destroy("executable graph", graph)

    @driver("cuGraphLaunch", "pp")
    def launch_graph(self, graph, stream):
        for node in self.find("executable graph", graph).nodes:
            self.submit(stream, node)
