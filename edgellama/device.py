"""What is known of this device: the name of its CPU, and what was measured on it before."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgellama import system
from edgellama.placement import WORTHWHILE_GAIN, Placement, is_thread_count, places

SETTINGS_NAME = "device.json"
SETTINGS_VERSION = 1


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
    def from_json(cls, entry: Any) -> DeviceSettings:
        """Keep what makes sense: the file may be damaged, hand-edited, or written by a later version."""
        if not isinstance(entry, dict):
            return cls()
        tuned = {name: Placement.from_json(entry.get(name)) for name in ("prefill", "decode")}
        return cls(**{name: entry[name] for name, is_sound in _SOUND.items() if is_sound(entry.get(name))}, **tuned)


def _is_rate(value: Any) -> bool:
    return isinstance(value, float) and 1e6 <= value <= 1e15


_SOUND = {"decode_threads": is_thread_count, "read_bytes_per_second": _is_rate}


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


@dataclass(frozen=True)
class WorkerPlan:
    """Where a load will compute: a prefill, and of several candidates for decode steps the one that proves fastest.

    `measured_threads`: the threads of the candidate that an earlier load found best for large models.
    """

    prefill: Placement
    decode: tuple[Placement, ...]
    measured_threads: int | None = None

    @property
    def n_workers(self) -> int:
        return max(choice.threads for choice in (self.prefill, *self.decode))


def worker_plan(threads: int | None) -> WorkerPlan:
    """The caller's number, on the fastest cores; without one what is known or to be found out of this device."""
    found, usable = places(), system.usable_cpus()
    if threads:
        given = found.on_fastest(threads)
        return WorkerPlan(given, (given,))
    settings = load_settings()
    decode = (settings.decode.within(usable),) if settings.decode else tuple(found.decode_candidates())
    prefill = (settings.prefill or found.prefill()).within(usable)
    return WorkerPlan(prefill, decode, settings.decode_threads)


Choice = TypeVar("Choice", int, Placement)


def fastest(rates: dict[Choice, list[float]]) -> Choice:
    """The choice with the best median rate (steps per second), the modest winning within 3 %."""
    medians = {choice: statistics.median(values) for choice, values in sorted(rates.items())}
    best = max(medians.values())
    return next(choice for choice, rate in medians.items() if rate * WORTHWHILE_GAIN >= best)
