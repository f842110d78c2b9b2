"""Facts of this machine's CPU, the thread count that follows from them, and what was measured on it before.

Topology is read from a folder laid out like /sys/devices/system/cpu, so trees recorded on other machines can be tested.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from edgellama import system

SYSFS_CPUS = Path("/sys/devices/system/cpu")
SETTINGS_NAME = "device.json"
SETTINGS_VERSION = 1
LITTLE_CORE_SHARE = 0.5  # a core with less than half the capacity of the best keeps the others waiting at barriers
WORTHWHILE_GAIN = 1.03  # more threads must be this much faster: fewer leave room for other programs and save power
MOST_THREADS = 255  # the low byte of the worker pool's generation numbers them


@dataclass(frozen=True)
class LogicalCpu:
    """One CPU as the system counts them. `capacity` is relative (1024 is the best core), None on uniform machines."""

    index: int
    core: tuple[int, int]  # package and core number; SMT siblings share it
    capacity: int | None = None


@dataclass(frozen=True)
class Cache:
    level: int
    kind: str  # Data, Instruction or Unified
    size_bytes: int
    cpus: tuple[int, ...]


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

    def cache_bytes(self, level: int) -> int | None:
        """Size of one data cache of this level; None when unknown."""
        sizes = [cache.size_bytes for cache in self.caches if cache.level == level and cache.kind != "Instruction"]
        return max(sizes, default=None)


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's notation: 0-3,8,10-11."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def _integer(path: Path) -> int | None:
    text = system.read_text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _size_bytes(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    digits = text.rstrip("KMG")
    return int(digits) * units.get(text[-1:], 1) if digits.isdigit() else 0


def _read_cpu(folder: Path, index: int) -> LogicalCpu:
    package = _integer(folder / "topology/physical_package_id")
    core = _integer(folder / "topology/core_id")
    siblings = parse_cpu_list(system.read_text(folder / "topology/thread_siblings_list"))
    # Some Arm kernels number cores per cluster, so equal ids need not be siblings; the sibling list is exact.
    identity = siblings[0] if siblings else index if core is None else core
    return LogicalCpu(index, (package or 0, identity), _integer(folder / "cpu_capacity"))


def _read_caches(folder: Path) -> list[Cache]:
    caches = []
    for entry in sorted(folder.glob("cache/index*")):
        cpus = parse_cpu_list(system.read_text(entry / "shared_cpu_list"))
        size = _size_bytes(system.read_text(entry / "size"))
        caches.append(Cache(_integer(entry / "level") or 0, system.read_text(entry / "type"), size, cpus))
    return caches


def read_topology(root: Path = SYSFS_CPUS) -> Topology:
    """What the folder says; without one (macOS, Windows) every usable CPU counts as a core of its own."""
    online = parse_cpu_list(system.read_text(root / "online"))
    if not online:
        return Topology(tuple(LogicalCpu(index, (0, index)) for index in system.usable_cpus()), ())
    cpus = tuple(_read_cpu(root / f"cpu{index}", index) for index in online)
    caches = {cache: None for index in online for cache in _read_caches(root / f"cpu{index}")}
    return Topology(cpus, tuple(caches))


def fast_core_count(topology: Topology, usable: Iterable[int]) -> int:
    """Physical cores among the usable CPUs, little ones left out."""
    cores = topology.cores(usable)
    capacities = [max(cpu.capacity or 0 for cpu in siblings) for siblings in cores.values()]
    if not capacities:
        return 1
    return sum(capacity >= LITTLE_CORE_SHARE * max(capacities) for capacity in capacities)


def default_thread_count(topology: Topology | None = None, usable: Iterable[int] | None = None) -> int:
    """One thread for each fast physical core, within affinity and the control group's quota."""
    limit = min(system.default_worker_limit(), MOST_THREADS)
    if topology is None and sys.platform == "darwin":
        cores = system.sysctl_integer("hw.perflevel0.physicalcpu") or system.sysctl_integer("hw.physicalcpu")
        return max(1, min(limit, cores or limit))
    chosen = read_topology() if topology is None else topology
    cores = fast_core_count(chosen, system.usable_cpus() if usable is None else usable)
    return max(1, min(limit, cores))


def cpu_model(root: Path = Path("/")) -> str:
    """The CPU's name, for people and as the key of saved settings; Arm Linux gives only numbers."""
    fields: dict[str, str] = {}
    for line in system.read_text(root / "proc/cpuinfo").splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:
        return f"Arm implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return platform.processor() or platform.machine()


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
        if not _is_thread_count(threads) or not isinstance(cpus, list) or not all(map(_is_cpu, cpus)):
            return None
        return cls(threads, tuple(sorted(cpus)))

    def within(self, usable: Iterable[int]) -> Placement:
        """The same, without its CPUs where this process may not use all of them."""
        return self if set(self.cpus) <= set(usable) else Placement(self.threads)


@dataclass(frozen=True)
class DeviceSettings:
    """What measuring found best on this device; None where nothing was measured.

    `decode_threads` comes from the first steps of a large model. `prefill` and `decode` were tuned on request, and hold
    for every model.
    """

    decode_threads: int | None = None
    prefill: Placement | None = None
    decode: Placement | None = None
    read_bytes_per_second: float | None = None  # from memory, with all fast cores

    @classmethod
    def given(cls, threads: int) -> DeviceSettings:
        """A number that the user chose, for everything."""
        return cls(prefill=Placement(threads), decode=Placement(threads))

    @classmethod
    def from_json(cls, entry: Any) -> DeviceSettings:
        """Keep what makes sense: the file may be damaged, hand-edited, or written by a later version."""
        if not isinstance(entry, dict):
            return cls()
        tuned = {name: Placement.from_json(entry.get(name)) for name in ("prefill", "decode")}
        return cls(**{name: entry[name] for name, is_sound in _SOUND.items() if is_sound(entry.get(name))}, **tuned)


def _is_thread_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_THREADS


def _is_cpu(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rate(value: Any) -> bool:
    return isinstance(value, float) and 1e6 <= value <= 1e15


_SOUND = {"decode_threads": _is_thread_count, "read_bytes_per_second": _is_rate}


def device_key() -> str:
    """Settings of one machine must not be used on another, nor under another CPU limit: home folders travel."""
    return f"{cpu_model()} / {system.default_worker_limit()} cpus"


def _read_devices(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("version") != SETTINGS_VERSION:
        return {}
    devices = content.get("devices")
    return devices if isinstance(devices, dict) else {}


def load_settings(key: str | None = None) -> DeviceSettings:
    """What was saved for this device; empty settings when nothing usable was."""
    folder = system.cache_folder()
    devices = {} if folder is None else _read_devices(folder / SETTINGS_NAME)
    return DeviceSettings.from_json(devices.get(device_key() if key is None else key))


def save_settings(settings: DeviceSettings, key: str | None = None) -> bool:
    """Remember the settings of this device beside those of others; False where nothing can be written."""
    folder = system.cache_folder()
    if folder is None:
        return False
    path = folder / SETTINGS_NAME
    devices = _read_devices(path) | {device_key() if key is None else key: asdict(settings)}
    content = json.dumps({"version": SETTINGS_VERSION, "devices": devices}, indent=1)
    try:
        system.write_atomically(path, content.encode())
    except OSError:
        return False
    return True


def thread_candidates(topology: Topology | None = None, usable: Iterable[int] | None = None) -> list[int]:
    """Thread counts worth measuring: one per fast core, half of them, one per core, one per logical CPU."""
    limit = min(system.default_worker_limit(), MOST_THREADS)
    fast = default_thread_count(topology, usable)
    chosen = read_topology() if topology is None else topology
    cores = len(chosen.cores(system.usable_cpus() if usable is None else usable))
    return sorted({count for count in (-(-fast // 2), fast, cores, limit) if 1 <= count <= limit})


Choice = TypeVar("Choice", int, Placement)


def fastest(rates: dict[Choice, list[float]]) -> Choice:
    """The choice with the best median rate (steps per second), the modest winning within 3 %."""
    medians = {choice: statistics.median(values) for choice, values in sorted(rates.items())}
    best = max(medians.values())
    return next(choice for choice, rate in medians.items() if rate * WORTHWHILE_GAIN >= best)
