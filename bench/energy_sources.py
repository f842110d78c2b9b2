"""Where joules can be read on this device: RAPL, power sensors, the battery, NVIDIA's driver.

A gauge grows from sample to sample: a Counter follows a counter of the hardware, a PowerSensor adds up watts over time.
Files are read below a root folder, so recorded machines can be tested. Names and units are those of Linux:
Documentation/power/powercap, Documentation/hwmon/sysfs-interface, Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgellama import system

from .nvml import Nvml, open_nvml

Reader = Callable[[], float | None]
MICRO = 1e-6
# Other sensors of power may be anything: the light of a network module, a disk, a part of another one.
HWMON_MEASURES = {
    **dict.fromkeys(("ina219", "ina220", "ina226", "ina230", "ina231"), "supply rail"),
    **dict.fromkeys(("ina237", "ina238", "ina260", "ina3221"), "supply rail"),
    "power_meter": "whole machine",
    "amd_energy": "CPU packages",
}


class Gauge(Protocol):
    """`joules` since the first sample; None from the moment on that a sample could not be read."""

    joules: float | None

    def sample(self, now_seconds: float) -> None: ...


class Counter:
    """Follows a counter in joules; at `range_joules` it starts again at zero, at most once between two samples."""

    def __init__(self, read: Reader, range_joules: float | None = None) -> None:
        self._read, self._range_joules = read, range_joules
        self._last: float | None = None
        self.joules: float | None = 0.0

    def sample(self, now_seconds: float) -> None:
        value = self._read()
        if value is None or self.joules is None:
            self.joules = None
            return
        if self._last is not None:
            wrapped = value < self._last
            self.joules += value - self._last + (self._range_joules or 0.0 if wrapped else 0.0)
        self._last = value


class PowerSensor:
    """Adds up watts over the time between samples, by the trapezoidal rule."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._last: tuple[float, float] | None = None  # (seconds, watts)
        self.joules: float | None = 0.0

    def sample(self, now_seconds: float) -> None:
        watts = self._read()
        if watts is None or self.joules is None:
            self.joules = None
            return
        if self._last is not None:
            seconds, last_watts = self._last
            self.joules += (now_seconds - seconds) * (watts + last_watts) / 2
        self._last = (now_seconds, watts)


@dataclass(frozen=True)
class Source:
    """`measures`: which part of the device; `least_seconds`: shorter intervals than that say little."""

    name: str
    measures: str
    gauges: tuple[Gauge, ...]
    least_seconds: float

    @property
    def joules(self) -> float | None:
        parts = [gauge.joules for gauge in self.gauges]
        return None if None in parts else sum(part or 0.0 for part in parts)


def find_sources(root: Path = Path("/")) -> tuple[list[Source], list[str]]:
    """(sources that can be read now, sentences about those that are there and cannot be read)."""
    sources, problems = [], []
    for find in (_rapl, _hwmon, _battery, _nvidia):
        found = find(root)
        if isinstance(found, str):
            problems.append(found)
        elif found is not None:
            sources.append(found)
    return sources, problems


def _scaled(file: Path, unit: float) -> float | None:
    text = system.read_text(file)
    return int(text) * unit if re.fullmatch(r"-?\d+", text) else None


def _reader(file: Path, unit: float = MICRO) -> Reader:
    return lambda: _scaled(file, unit)


def _rapl(root: Path) -> Source | str | None:
    """The package domains. Their parts, the platform around them and the second view "mmio" are left out."""
    packages: dict[str, Path] = {}
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = system.read_text(folder / "name")
        if name.startswith("package") and folder.name.count(":") == 1:
            packages.setdefault(name, folder)
    if not packages:
        return None
    if any(_scaled(folder / "energy_uj", MICRO) is None for folder in packages.values()):
        return (
            "RAPL counts energy here, but only the administrator may read it (run as root, or allow reading energy_uj)"
        )
    gauges = (
        Counter(_reader(folder / "energy_uj"), _scaled(folder / "max_energy_range_uj", MICRO))
        for folder in packages.values()
    )
    return Source("RAPL", "CPU packages", tuple(gauges), least_seconds=0.1)


def _hwmon(root: Path) -> Source | None:
    """All sensors of the first kind that is found, added up."""
    found: dict[str, list[Gauge]] = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = system.read_text(folder / "name")
        if name in HWMON_MEASURES:
            found.setdefault(name, []).extend(_hwmon_gauges(folder))
    for name, gauges in found.items():
        if gauges:
            return Source(f"sensor {name}", HWMON_MEASURES[name], tuple(gauges), least_seconds=2.0)
    return None


def _hwmon_gauges(folder: Path) -> list[Gauge]:
    """Counters where there are any, else power, else voltage times current."""
    energies = [file for file in folder.glob("energy*_input") if _is_whole(file)]
    if energies:
        return [Counter(_reader(file)) for file in energies]
    powers = list(folder.glob("power*_input")) or list(folder.glob("power*_average"))
    if powers:
        return [PowerSensor(_reader(file)) for file in powers]
    return [PowerSensor(read) for read in _volts_times_amperes(folder)]


def _is_whole(file: Path) -> bool:
    """amd_energy counts each core and each socket: the cores are in the sockets."""
    label = system.read_text(file.with_name(file.name.replace("_input", "_label")))
    return not label.startswith("Ecore")


def _volts_times_amperes(folder: Path) -> Iterator[Reader]:
    """Channels with both; of boards that measure their input and parts of it, the input alone."""
    currents = {file.name[4:-6]: file for file in folder.glob("curr*_input")}
    channels = {n: file for n, file in currents.items() if (folder / f"in{n}_input").exists()}
    inputs = [n for n in channels if system.read_text(folder / f"in{n}_label").upper().endswith("_IN")]
    for n in inputs or sorted(channels):
        yield _product(folder / f"in{n}_input", channels[n], 1e-3 * 1e-3)


def _product(first: Path, second: Path, unit: float) -> Reader:
    def read() -> float | None:
        one, other = _scaled(first, 1.0), _scaled(second, 1.0)
        return None if one is None or other is None else one * abs(other) * unit

    return read


def _battery(root: Path) -> Source | str | None:
    folders = [
        folder
        for folder in sorted((root / "sys/class/power_supply").glob("*"))
        if system.read_text(folder / "type") == "Battery" and system.read_text(folder / "scope") != "Device"
    ]
    if not folders:
        return None
    discharging = [folder for folder in folders if system.read_text(folder / "status") == "Discharging"]
    if not discharging:
        return "the battery tells watts only while it discharges: unplug the power supply"
    gauges = tuple(PowerSensor(_battery_watts(folder)) for folder in discharging)
    return Source("battery", "whole machine", gauges, least_seconds=30.0)


def _battery_watts(folder: Path) -> Reader:
    if (folder / "power_now").exists():
        read = _reader(folder / "power_now")
    else:
        read = _product(folder / "current_now", folder / "voltage_now", MICRO * MICRO)

    def watts() -> float | None:
        value = read() if system.read_text(folder / "status") == "Discharging" else None
        return None if value is None else abs(value)  # some drivers give a current that flows out a minus sign

    return watts


def _nvidia(root: Path) -> Source | None:
    return None if root != Path("/") else nvidia_source(open_nvml())


def nvidia_source(nvml: Nvml | None) -> Source | None:
    if nvml is None:
        return None
    if nvml.joules() is not None:
        return Source("NVML", "GPU", (Counter(nvml.joules),), least_seconds=1.0)
    if nvml.watts() is not None:
        return Source("NVML", "GPU", (PowerSensor(nvml.watts),), least_seconds=2.0)
    return None
