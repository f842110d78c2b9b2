"""Placements of worker threads that are worth measuring on a device: how many threads, and on which CPUs.

Big and little cores, SMT siblings and cores that share a last-level cache each give sets of their own. A set that the
system would give the threads anyway, all CPUs, is not named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgellama import system
from edgellama.placement import MOST_THREADS, Placement, Places
from edgellama.topology import Core, Topology


def placements(
    topology: Topology, usable: Iterable[int], limit: int | None = None, can_place: bool | None = None
) -> list[Placement]:
    """The modest first. `limit`: the most threads; `can_place`: whether threads can be bound to CPUs."""
    usable = sorted(usable)
    limit = min(system.default_worker_limit() if limit is None else limit, MOST_THREADS)
    can_place = system.can_place_threads() if can_place is None else can_place
    places = Places.of(topology, usable, len(usable))
    found = {Placement(count) for count in _free_counts(places, len(usable))}
    if can_place:
        class_groups = [_up_to(places, number) for number in range(len(places.classes))]
        for group in (*class_groups, *_cache_groups(topology, places)):
            found |= _on(group)
    return sorted({_within(item, limit, usable) for item in found})


def _within(placement: Placement, limit: int, usable: list[int]) -> Placement:
    threads = max(1, min(placement.threads, limit))
    return Placement(threads, () if set(placement.cpus) == set(usable) else placement.cpus)


def _free_counts(places: Places, n_usable: int) -> set[int]:
    """Half the fast cores, all of them, all cores, all logical CPUs."""
    n_fast = places.prefill().threads
    return {-(-n_fast // 2), n_fast, len(places.cores), n_usable}


def _on(group: Sequence[Core]) -> set[Placement]:
    """One thread for each core, on the first of its CPUs; and one for each logical CPU, if that is different."""
    first = tuple(sorted(core.cpus[0] for core in group))
    every = tuple(sorted(cpu for core in group for cpu in core.cpus))
    return {Placement(len(first), first), Placement(len(every), every)}


def _up_to(places: Places, number: int) -> list[Core]:
    """A class of cores with all better ones."""
    return [core for group in places.classes[: number + 1] for core in group]


def _cache_groups(topology: Topology, places: Places) -> list[list[Core]]:
    """The first of the equal parts that have a last-level cache of their own, as AMD's core complexes do."""
    last = max((cache.level for cache in topology.caches), default=0)
    groups = [
        [core for core in _up_to(places, 0) if core.cpus[0] in cache.cpus]
        for cache in topology.caches
        if cache.level == last and last >= 3
    ]
    return [max(groups, key=len)] if len(groups) > 1 and any(groups) else []
