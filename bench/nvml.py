"""NVIDIA's management library through ctypes: names, watts and joules of GPUs, where the driver is installed.

Calling the library costs microseconds; starting `nvidia-smi` for each sample would disturb what is measured.
Functions and units: NVML API Reference Guide, https://docs.nvidia.com/deploy/nvml-api.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


class Nvml:
    """An open library. Handles are by index; a call that the GPU does not support answers None."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.handles = [self._handle(index) for index in range(self._count())]

    def _count(self) -> int:
        count = ctypes.c_uint()
        return count.value if self.library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0

    def _handle(self, index: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self.library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def names(self) -> list[str]:
        names = []
        for handle in self.handles:
            text = ctypes.create_string_buffer(NAME_BYTES)
            if self.library.nvmlDeviceGetName(handle, text, ctypes.c_uint(NAME_BYTES)) == 0:
                names.append(text.value.decode(errors="replace"))
        return names

    def joules(self) -> float | None:
        """Of all GPUs since the driver was loaded; Volta and later count them."""
        return self._sum("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong, 1e-3)

    def watts(self) -> float | None:
        """Of all GPUs now."""
        return self._sum("nvmlDeviceGetPowerUsage", ctypes.c_uint, 1e-3)

    def _sum(self, function: str, kind: Any, unit: float) -> float | None:
        total = 0.0
        for handle in self.handles:
            value = kind()
            if getattr(self.library, function)(handle, ctypes.byref(value)) != 0:
                return None
            total += value.value * unit
        return total if self.handles else None


@cache
def open_nvml() -> Nvml | None:
    """None where there is no such library, or it finds no driver."""
    name = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
    try:
        library = ctypes.CDLL(name)
        return Nvml(library) if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None
