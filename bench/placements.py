"""Placements of worker threads that are worth measuring on a device: how many threads, and on which CPUs.

Big and little cores, SMT siblings and cores that share a last-level cache each give sets of their own. A set that the
system would give the threads anyway, all CPUs, is not named.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgellama import device, system
from edgellama.device import LogicalCpu, Placement, Topology

Core = list[LogicalCpu]


def placements(
    topology: Topology, usable: Iterable[int], limit: int | None = None, can_place: bool | None = None
) -> list[Placement]:
    """The modest first. `limit`: the most threads; `can_place`: whether threads can be bound to CPUs."""
    usable = sorted(usable)
    limit = min(system.default_worker_limit() if limit is None else limit, device.MOST_THREADS)
    can_place = system.can_place_threads() if can_place is None else can_place
    cores = [sorted(core, key=lambda cpu: cpu.index) for core in topology.cores(usable).values()]
    found = {Placement(count) for count in _free_counts(cores, len(usable))}
    if can_place:
        for group in (cores, *_capacity_groups(cores), *_cache_groups(topology, cores)):
            found |= _on(group)
    return sorted({_within(item, limit, usable) for item in found})


def _within(placement: Placement, limit: int, usable: list[int]) -> Placement:
    threads = max(1, min(placement.threads, limit))
    return Placement(threads, () if set(placement.cpus) == set(usable) else placement.cpus)


def _free_counts(cores: list[Core], n_usable: int) -> set[int]:
    """Half the fast cores, all of them, all cores, all logical CPUs."""
    n_fast = len(_at_least(cores, device.LITTLE_CORE_SHARE * _best(cores)))
    return {-(-n_fast // 2), n_fast, len(cores), n_usable}


def _on(group: list[Core]) -> set[Placement]:
    """One thread for each core, on the first of its CPUs; and one for each logical CPU, if that is different."""
    first = tuple(sorted(core[0].index for core in group))
    every = tuple(sorted(cpu.index for core in group for cpu in core))
    return {Placement(len(first), first), Placement(len(every), every)}


def _capacity(core: Core) -> int:
    return max(cpu.capacity or 0 for cpu in core)


def _best(cores: list[Core]) -> int:
    return max(map(_capacity, cores), default=0)


def _at_least(cores: list[Core], capacity: float) -> list[Core]:
    return [core for core in cores if _capacity(core) >= capacity]


def _capacity_groups(cores: list[Core]) -> list[list[Core]]:
    """The best kind of cores, and each weaker kind together with all better ones."""
    return [_at_least(cores, capacity) for capacity in {_capacity(core) for core in cores}]


def _cache_groups(topology: Topology, cores: list[Core]) -> list[list[Core]]:
    """The first of the equal parts that have a last-level cache of their own, as AMD's core complexes do."""
    last = max((cache.level for cache in topology.caches), default=0)
    groups = [
        [core for core in _at_least(cores, _best(cores)) if core[0].index in cache.cpus]
        for cache in topology.caches
        if cache.level == last and last >= 3
    ]
    return [max(groups, key=len)] if len(groups) > 1 and any(groups) else []
