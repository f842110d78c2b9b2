"""How many bytes per second this device reads from memory: measured once, in well under a second, then remembered.

Threads sum integers that no cache can hold; NumPy adds them faster than memory brings them. The best of several rounds
counts, since other programs only ever make a round slower. (`python -m bench limits` measures with the runtime's own
kernels, which must be compiled first.)
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from edgellama import device, placement, system
from edgellama.topology import read_topology

_ROUNDS = 8
_LEAST_BYTES = 256 << 20
_CACHE_MULTIPLE = 4
_LARGEST_MEMORY_SHARE = 0.25  # of what is free
_PIECE_BYTES = 8 << 20


def read_bytes_per_second() -> float:
    """With one thread for each fast core."""
    settings = device.load_settings()
    if settings.read_bytes_per_second is None:
        settings = replace(settings, read_bytes_per_second=_measure(placement.default_thread_count()))
        device.save_settings(settings)
    return settings.read_bytes_per_second


def _measure(n_threads: int) -> float:
    import numpy as np

    values = system.allocate(_buffer_bytes()).view(np.int64)
    values.fill(1)  # pages that nobody has written are all the same page of zeros
    pieces = np.split(values, max(1, values.nbytes // _PIECE_BYTES))
    best = 0.0
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            list(pool.map(np.sum, pieces))
            best = max(best, values.nbytes / (time.perf_counter() - start))
    return best


def _buffer_bytes() -> int:
    topology = read_topology()
    cached = max((topology.cache_bytes(level) or 0 for level in (1, 2, 3, 4)), default=0)
    wanted = max(_LEAST_BYTES, _CACHE_MULTIPLE * cached)
    most = int(system.available_memory_bytes() * _LARGEST_MEMORY_SHARE)
    return max(min(wanted, most) // _PIECE_BYTES, 1) * _PIECE_BYTES
