"""GPUs of this device by name. The runtime computes on the CPU; they are listed as they share memory and power."""

from __future__ import annotations

import re
from pathlib import Path

from edgellama import system

from .nvml import open_nvml

VENDORS = {
    "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x1414": "Microsoft",
    "0x1af4": "virtio", "0x1234": "QEMU", "0x15ad": "VMware", "0x1a03": "ASPEED",
}  # fmt: skip


def describe_gpus(root: Path = Path("/")) -> list[str]:
    """One name for each GPU, such as "NVIDIA GeForce RTX 3060" or "Intel 0x46a6 (i915)"; empty where there is none."""
    nvidia = _nvidia_driver(root)
    if not nvidia and root == Path("/") and (nvml := open_nvml()):
        nvidia = nvml.names()
    others = [name for name in _display_devices(root) if not (nvidia and name.startswith("NVIDIA"))]
    return nvidia + others


def _nvidia_driver(root: Path) -> list[str]:
    """The driver's own list; only the model is read, as the file also holds the GPU's unique number."""
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    found = (re.search(r"^Model:\s*(.+)$", system.read_text(file), re.MULTILINE) for file in files)
    return [match[1].strip() for match in found if match]


def _display_devices(root: Path) -> list[str]:
    folders = sorted((root / "sys/class/drm").glob("card[0-9]"))
    return list(dict.fromkeys(name for folder in folders if (name := _display_name(folder / "device"))))


def _display_name(folder: Path) -> str | None:
    fields = dict(line.partition("=")[::2] for line in system.read_text(folder / "uevent").splitlines())
    driver, vendor = fields.get("DRIVER"), system.read_text(folder / "vendor")
    if vendor:
        return f"{VENDORS.get(vendor, vendor)} {system.read_text(folder / 'device')} ({driver or 'no driver'})"
    kind = fields.get("OF_COMPATIBLE_0")  # of a GPU that is part of an Arm chip
    return f"{kind} ({driver or 'no driver'})" if kind else None
