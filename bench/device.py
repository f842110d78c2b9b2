"""What this device is: a record that may be shared, as it holds no host name, user, serial number, address or path.

Only fields that are named here are read, and all below a root folder, so trees recorded on other machines can be
tested. What moves while a benchmark runs (frequency, temperature, throttling) is read by `device_state.py`.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from edgellama import device as known
from edgellama import system
from edgellama.core_names import core_names
from edgellama.topology import Topology, read_topology

from .device_state import read_state
from .gpus import describe_gpus
from .virtualization import describe_virtualization

PACKAGES = ("edgellama", "numpy", "numba", "llvmlite")
NO_BOARD = ("", "none", "default string", "to be filled by o.e.m.", "system product name", "not specified")


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """The device record of a benchmark; a fact that the system does not tell is None."""
    topology = read_topology(root / "sys/devices/system/cpu")
    usable = _usable_cpus(root, topology)
    return {
        "board": board(root),
        "cpu": cpu(root, topology, usable),
        "caches": caches(topology, usable),
        "memory": {"total_bytes": system.total_memory_bytes(root)},
        "gpus": describe_gpus(root),
        "system": operating_system(root),
        "virtualization": describe_virtualization(root),
        "state": read_state(root).as_record(),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that a speed may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _usable_cpus(root: Path, topology: Topology) -> list[int]:
    online = [cpu.index for cpu in topology.cpus]
    return online if root != Path("/") else [index for index in system.usable_cpus() if index in online]


def cpu(root: Path, topology: Topology, usable: list[int]) -> dict[str, Any]:
    """The CPU as a whole, and `core_kinds`: one entry for big cores, one for little ones, …"""
    cores = topology.cores(usable)
    kinds = core_kinds(root, topology, usable)
    model = known.cpu_model(root)
    if model.startswith("Arm implementer"):
        model = " + ".join(dict.fromkeys(kind["name"] for kind in kinds if kind["name"])) or model
    return {
        "model": model,
        "machine": platform.machine() if root == Path("/") else None,
        "isa": _isa(root),
        "physical_cores": len(cores),
        "logical_cpus": len(usable),
        "threads_per_core": max(map(len, cores.values()), default=1),
        "core_kinds": kinds,
        "quota_cpus": system.cpu_quota(root),
    }


def _isa(root: Path) -> str | None:
    """The instruction set that the runtime chooses; only asked of the machine that this runs on."""
    if root != Path("/"):
        return None
    from edgellama.simd.detect import chosen_isa

    return chosen_isa()


def core_kinds(root: Path, topology: Topology, usable: list[int]) -> list[dict[str, Any]]:
    """Physical cores that are alike, the fastest first; capacity is relative, None on uniform machines."""
    names = core_names(root, topology)
    kinds: dict[tuple, dict[str, Any]] = {}
    for siblings in topology.cores(usable).values():
        first = siblings[0]
        key = (first.capacity, first.max_frequency_hz, names.get(first.index))
        kind = kinds.setdefault(key, {"cores": 0, "logical_cpus": 0})
        kind["cores"] += 1
        kind["logical_cpus"] += len(siblings)
    ordered = sorted(kinds.items(), key=lambda item: (item[0][0] or 0, item[0][1] or 0), reverse=True)
    return [
        {"name": name, **counts, "capacity": capacity, "max_frequency_hz": frequency}
        for (capacity, frequency, name), counts in ordered
    ]


def caches(topology: Topology, usable: Iterable[int]) -> list[dict[str, Any]]:
    """Data caches of the usable CPUs: of each level and size, how many there are."""
    allowed, counts = set(usable), {}
    for cache in topology.caches:
        if cache.kind != "Instruction" and allowed & set(cache.cpus):
            key = (cache.level, cache.size_bytes)
            counts[key] = counts.get(key, 0) + 1
    return [{"level": level, "size_bytes": size, "count": counts[level, size]} for level, size in sorted(counts)]


def board(root: Path) -> str | None:
    """The name of the board or computer model."""
    named = system.read_text(root / "proc/device-tree/model").strip("\0")
    if named:
        return named
    fields = (system.read_text(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(field for field in fields if field.lower() not in NO_BOARD) or None


def operating_system(root: Path) -> dict[str, str | None]:
    """Its name and the kernel's release, which people who build kernels choose: only what looks like a version."""
    release = system.read_text(root / "proc/sys/kernel/osrelease") or platform.release()
    kernel = re.match(r"\d+(\.\d+)*", release)
    return {"name": _distribution(root), "kernel": kernel.group() if kernel else None}


def _distribution(root: Path) -> str:
    fields = dict(re.findall(r'^(\w+)="?(.*?)"?$', system.read_text(root / "etc/os-release"), re.MULTILINE))
    return fields.get("PRETTY_NAME") or f"{platform.system()} {platform.release()}"
