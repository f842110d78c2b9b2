"""Where worker threads compute: how many there are, and on which CPUs, by what the cores are.

On a uniform machine the system places the threads. Where cores are big and little, threads are bound to the cores
chosen here: one of them on a little core can keep all others waiting at a barrier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgellama import system
from edgellama.topology import Core, Topology, cpu_list, read_topology

MOST_THREADS = 255  # the low byte of the worker pool's generation numbers them
CLAIM_SHARE = 0.75  # of an even share: what a worker's first claim of a split op takes (cpu/kernels/shared.py)
# A core with a share s of the best one's scalar speed multiplies blocks at about s ** 1.5 of its speed, as weak cores
# have narrow vectors too: 0.26 for a Cortex-A55 beside an A76 (s = 0.40), 0.32 for an A53 beside an A72 (s = 0.47).
VECTOR_EXPONENT = 1.5
WORTHWHILE_GAIN = 1.03  # more threads must be this much faster: fewer leave room for other programs and save power


class Placement(NamedTuple):
    """So many worker threads on these logical CPUs; on all that the process may use if none are named.

    Placements sort by what they take from other programs, the modest first.
    """

    threads: int
    cpus: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, entry: Any) -> Placement | None:
        if not isinstance(entry, list) or len(entry) != 2:
            return None
        threads, cpus = entry
        if not is_thread_count(threads) or not isinstance(cpus, list) or not all(map(_is_cpu, cpus)):
            return None
        return cls(threads, tuple(sorted(cpus)))

    def describe(self) -> str:
        """Such as: 4 threads on CPUs 4-7."""
        noun = "thread" if self.threads == 1 else "threads"
        return f"{self.threads} {noun}" + (f" on CPUs {cpu_list(self.cpus)}" if self.cpus else "")

    def within(self, usable: Iterable[int]) -> Placement:
        """The same, without its CPUs where this process may not use all of them."""
        return self if set(self.cpus) <= set(usable) else Placement(self.threads)


def is_thread_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_THREADS


def _is_cpu(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class Places:
    """The cores that a process may use, and the threads that they are worth.

    `classes`: usable cores, the fastest class first. `limit`: the most threads, by the control group's quota and the
    number of usable CPUs. `can_bind`: whether threads can be bound to CPUs.
    """

    classes: tuple[tuple[Core, ...], ...]
    limit: int
    can_bind: bool = True

    @classmethod
    def of(cls, topology: Topology, usable: Iterable[int], limit: int | None = None) -> Places:
        """What a process finds that may run on the CPUs `usable` of a machine."""
        classes = tuple(topology.core_classes(usable))
        n_cpus = sum(len(core.cpus) for group in classes for core in group)
        most = min(system.default_worker_limit() if limit is None else limit, n_cpus, MOST_THREADS)
        return cls(classes, max(1, most), system.can_place_threads())

    @property
    def cores(self) -> list[Core]:
        """The fastest first."""
        return [core for group in self.classes for core in group]

    def on_fastest(self, threads: int) -> Placement:
        """So many threads on the fastest class of cores, and on as many further classes as it takes.

        They share one CPU of each core. More threads than cores, and threads of a uniform machine, go where the
        system puts them.
        """
        if not self.can_bind or len(self.classes) == 1 or threads > len(self.cores):
            return Placement(threads)
        cpus: list[int] = []
        for group in self.classes:
            if len(cpus) < threads:
                cpus += [core.cpus[0] for core in group]
        usable = {cpu for core in self.cores for cpu in core.cpus}
        return Placement(threads, () if set(cpus) == usable else tuple(sorted(cpus)))

    def prefill(self) -> Placement:
        """The fastest class, with those further ones that shorten the time between two barriers."""
        speeds = [core.share**VECTOR_EXPONENT for core in self.cores][: self.limit]
        best = 1
        for count in self._class_ends():
            if section_seconds(speeds[:count]) * WORTHWHILE_GAIN < section_seconds(speeds[:best]):
                best = count
        return self.on_fastest(best)

    def decode_candidates(self) -> list[Placement]:
        """Placements worth measuring, the modest and with them the big cores first; no two have as many threads.

        Few cores may fill the memory bus: half the big cores, all of them, those of a prefill, all cores, all CPUs.
        """
        big, fast = len(self.classes[0]) if self.classes else 1, self.prefill().threads
        counts = {-(-min(big, fast) // 2), min(big, fast), fast, len(self.cores), self.limit}
        return [self.on_fastest(count) for count in sorted(counts) if 1 <= count <= self.limit]

    def _class_ends(self) -> list[int]:
        """How many cores there are up to the end of each class, within the limit."""
        ends: list[int] = []
        for group in self.classes:
            ends.append(min(self.limit, (ends[-1] if ends else 0) + len(group)))
        return ends


def section_seconds(speeds: Sequence[float]) -> float:
    """Time of a section that takes a core of speed 1 one second, split over cores of these speeds.

    All work until all is done, unless the first claim of the slowest takes longer than that.
    """
    return max(1.0 / sum(speeds), CLAIM_SHARE / (len(speeds) * min(speeds)))


def places() -> Places:
    """Those of this process."""
    return Places.of(read_topology(), system.usable_cpus())


def default_thread_count() -> int:
    """The threads of a prefill: one for each fast physical core, within affinity and the control group's quota."""
    return places().prefill().threads
