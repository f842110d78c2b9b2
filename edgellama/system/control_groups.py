"""What a container or service manager on Linux grants: the limits of control groups, version 2, else 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .proc_files import read_text


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's control group and all above it: the tightest limit on the way holds (version 2, else 1)."""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3 or (fields[1] and controller not in fields[1].split(",")):
            continue
        _, names, path = fields
        base = root / "sys/fs/cgroup"
        folder = base / names / path.strip("/") if names else base / path.strip("/")
        top = base / names if names else base
        while True:
            yield folder
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _number(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdigit() else None


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many CPUs' worth of time the control group grants; None without a limit."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = [*read_text(folder / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
        granted, per = _number(quota), _number(period)
        if granted and per and granted > 0:
            quotas.append(granted / per)
    return min(quotas, default=None)


def cgroup_memory_room_bytes(root: Path = Path("/")) -> int | None:
    """Bytes left below the tightest memory limit; cached file pages count as free: the kernel drops them first."""
    rooms = []
    for folder in _cgroup_folders(root, "memory"):
        limit = _number(read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes"))
        used = _number(read_text(folder / "memory.current") or read_text(folder / "memory.usage_in_bytes"))
        if limit is not None and used is not None:
            fields = dict(line.split() for line in read_text(folder / "memory.stat").splitlines())
            rooms.append(max(0, limit - used + int(fields.get("inactive_file", 0))))
    return min(rooms, default=None)
