"""The CPUs of this machine as Linux describes them: cores, SMT siblings, caches, and which cores are big or little.

Everything is read from a folder laid out like /sys/devices/system/cpu, so trees recorded on other machines can be
tested. Capacity is the kernel's `cpu_capacity`: the speed of scalar code at the highest frequency, 1024 for the best.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgellama import system

SYSFS_CPUS = Path("/sys/devices/system/cpu")
P_CORE, E_CORE = "P-core", "E-core"
INTEL_FOLDERS = {"cpu_core": P_CORE, "cpu_atom": E_CORE}  # performance counters that x86 Linux has for each kind
E_CORE_WORK = 0.7  # of a P-core's work in a clock cycle: Gracemont beside Golden Cove, whose capacity Linux hides
MOST_CAPACITY, APPLE_E_CAPACITY = 1024, 460  # an M1's cores under Linux: 714 at 2064 MHz beside 1024 at 3204 MHz
ALIKE_SHARE = 0.8  # cores of one class: favoured cores and turbo bins differ by less


@dataclass(frozen=True)
class LogicalCpu:
    """One CPU as the system counts them; None is what it does not tell. `kind` is Intel's name of a hybrid's core."""

    index: int
    core: tuple[int, int]  # package and core number; SMT siblings share it
    capacity: int | None = None
    max_frequency_hz: int | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Cache:
    level: int
    kind: str  # Data, Instruction or Unified
    size_bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class Core:
    """The usable logical CPUs of a physical core, and its scalar speed as a share of the best usable core's."""

    cpus: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class Topology:
    cpus: tuple[LogicalCpu, ...]
    caches: tuple[Cache, ...]

    def cores(self, usable: Iterable[int]) -> dict[tuple[int, int], list[LogicalCpu]]:
        """Physical core -> its usable logical CPUs."""
        allowed, cores = set(usable), {}
        for cpu in self.cpus:
            if cpu.index in allowed:
                cores.setdefault(cpu.core, []).append(cpu)
        return cores

    def core_classes(self, usable: Iterable[int]) -> list[tuple[Core, ...]]:
        """Usable cores that are about alike, the fastest class first; one class on a uniform machine."""
        groups = list(self.cores(usable).values())
        strengths = _strengths(groups)
        best = max(strengths, default=1.0)
        cores = [
            Core(tuple(sorted(cpu.index for cpu in siblings)), strength / best)
            for siblings, strength in zip(groups, strengths, strict=True)
        ]
        classes: list[list[Core]] = []
        for core in sorted(cores, key=lambda core: (-core.share, core.cpus)):
            is_alike = classes and core.share >= ALIKE_SHARE * classes[-1][0].share
            classes[-1].append(core) if is_alike else classes.append([core])
        return [tuple(group) for group in classes]

    def cache_bytes(self, level: int) -> int | None:
        """Size of one data cache of this level; None when unknown."""
        sizes = [cache.size_bytes for cache in self.caches if cache.level == level and cache.kind != "Instruction"]
        return max(sizes, default=None)


def _strengths(groups: list[list[LogicalCpu]]) -> list[float]:
    """Speeds of cores in one unit: a figure counts only if all of them have it."""
    first = [siblings[0] for siblings in groups]
    if all(cpu.capacity for cpu in first):
        return [float(cpu.capacity or 0) for cpu in first]
    work = [E_CORE_WORK if cpu.kind == E_CORE else 1.0 for cpu in first]
    if all(cpu.max_frequency_hz for cpu in first):
        return [share * (cpu.max_frequency_hz or 0) for share, cpu in zip(work, first, strict=True)]
    return work


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's notation: 0-3,8,10-11."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def cpu_list(cpus: Iterable[int]) -> str:
    """CPUs in ascending order in the same notation."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def read_topology(root: Path = SYSFS_CPUS) -> Topology:
    """What the folder says; without one (Windows) every usable CPU counts as a core of its own."""
    online = parse_cpu_list(system.read_text(root / "online"))
    if not online:
        cpus = _macos_cpus() if sys.platform == "darwin" else [LogicalCpu(i, (0, i)) for i in system.usable_cpus()]
        return Topology(tuple(cpus), ())
    kinds = _intel_kinds(root)
    cpus = tuple(_read_cpu(root / f"cpu{index}", index, kinds.get(index)) for index in online)
    caches = {cache: None for index in online for cache in _read_caches(root / f"cpu{index}")}
    return Topology(cpus, tuple(caches))


def _macos_cpus() -> list[LogicalCpu]:
    """As many as there are of each kind; which number is which, macOS tells nobody."""
    n_cpus = len(system.usable_cpus())
    n_cores = system.sysctl_integer("hw.physicalcpu") or n_cpus
    n_big = system.sysctl_integer("hw.perflevel0.physicalcpu") or n_cores
    capacities = [MOST_CAPACITY if core < n_big else APPLE_E_CAPACITY for core in range(n_cores)]
    return [LogicalCpu(index, (0, index % n_cores), capacities[index % n_cores]) for index in range(n_cpus)]


def _intel_kinds(root: Path) -> dict[int, str]:
    devices = root.parent.parent
    return {
        index: name
        for folder, name in INTEL_FOLDERS.items()
        for index in parse_cpu_list(system.read_text(devices / folder / "cpus"))
    }


def _read_cpu(folder: Path, index: int, kind: str | None) -> LogicalCpu:
    package = _integer(folder / "topology/physical_package_id")
    core = _integer(folder / "topology/core_id")
    # Two names of one list; kernels that have the second only are older.
    names = ("core_cpus_list", "thread_siblings_list")
    siblings = next(filter(None, (parse_cpu_list(system.read_text(folder / "topology" / name)) for name in names)), ())
    # Some Arm kernels number cores per cluster, so equal ids need not be siblings; the sibling list is exact.
    identity = siblings[0] if siblings else index if core is None else core
    kilohertz = _integer(folder / "cpufreq/cpuinfo_max_freq")
    frequency = None if kilohertz is None else 1000 * kilohertz
    return LogicalCpu(index, (max(package or 0, 0), identity), _integer(folder / "cpu_capacity"), frequency, kind)


def _read_caches(folder: Path) -> list[Cache]:
    caches = []
    for entry in sorted(folder.glob("cache/index*")):
        cpus = parse_cpu_list(system.read_text(entry / "shared_cpu_list"))
        size = _size_bytes(system.read_text(entry / "size"))
        caches.append(Cache(_integer(entry / "level") or 0, system.read_text(entry / "type"), size, cpus))
    return caches


def _integer(path: Path) -> int | None:
    text = system.read_text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _size_bytes(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    digits = text.rstrip("KMG")
    return int(digits) * units.get(text[-1:], 1) if digits.isdigit() else 0
