"""What moves on a device while it computes: frequencies, temperature, and whether it is held back.

Read before and after a measurement: `reasons_for_doubt` says in plain words what happened in between.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgellama import system

CPU_SENSOR = re.compile(r"cpu|core|soc|pkg|package|k10temp|zenpower", re.IGNORECASE)
PLAUSIBLE_CELSIUS = range(-40, 151)  # some firmware reports 0 K or 255 for a sensor that is not there
FREQUENCY_DROP = 0.9  # of what it was
# Bits of the Raspberry Pi's firmware word; the same ones 16 places higher say "since the start of the system".
PI_THROTTLING = {
    0: "the supply voltage is too low",
    1: "the firmware caps the frequency",
    2: "the firmware throttles the CPU",
    3: "the soft temperature limit is active",
}
PI_TOOL = "vcgencmd"
PI_FIRMWARE = "sys/devices/platform/soc*/soc*:firmware/get_throttled"


@dataclass(frozen=True)
class DeviceState:
    """A moment. Empty or None: this system does not tell."""

    governors: tuple[str, ...]
    frequencies_hz: tuple[int, ...]  # one for each group of CPUs that change together
    max_frequencies_hz: tuple[int, ...]
    temperature_celsius: float | None  # of the hottest sensor of the CPU
    throttle_count: int | None  # how often the CPU throttled itself since the system started
    throttling: tuple[str, ...]  # what holds it back now
    throttled_before: tuple[str, ...]  # what held it back at some time since the system started

    def as_record(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def mean_frequency_hz(self) -> float | None:
        return sum(self.frequencies_hz) / len(self.frequencies_hz) if self.frequencies_hz else None


def read_state(root: Path = Path("/")) -> DeviceState:
    firmware = _pi_firmware_word(root)
    policies = _policies(root)
    return DeviceState(
        governors=tuple(sorted({system.read_text(folder / "scaling_governor") for folder in policies} - {""})),
        frequencies_hz=tuple(_frequencies_hz(policies, "scaling_cur_freq") or _cpuinfo_frequencies_hz(root)),
        max_frequencies_hz=tuple(_frequencies_hz(policies, "scaling_max_freq")),
        temperature_celsius=_temperature_celsius(root),
        throttle_count=_throttle_count(root),
        throttling=tuple(_firmware_sentences(firmware) + _active_cooling(root)),
        throttled_before=tuple(_firmware_sentences(firmware >> 16)),
    )


def reasons_for_doubt(before: DeviceState, after: DeviceState) -> list[str]:
    """What happened between two states, or holds now, that makes figures measured between them too low."""
    reasons = list(after.throttling)
    if before.throttle_count is not None and after.throttle_count is not None:
        count = after.throttle_count - before.throttle_count
        if count > 0:
            reasons.append(f"the CPU throttled itself {count} times")
    if len(before.frequencies_hz) == len(after.frequencies_hz):
        pairs = zip(before.frequencies_hz, after.frequencies_hz, strict=True)
        drops = [(old, new) for old, new in pairs if new < FREQUENCY_DROP * old]
        if drops:
            old, new = max(drops, key=lambda drop: drop[0] / drop[1])
            reasons.append(f"a frequency fell from {old / 1e6:.0f} to {new / 1e6:.0f} MHz")
    return reasons


def _policies(root: Path) -> list[Path]:
    folders = (root / "sys/devices/system/cpu/cpufreq").glob("policy*")
    return sorted(folders, key=lambda folder: int(re.sub(r"\D", "", folder.name) or 0))


def _frequencies_hz(policies: list[Path], name: str) -> list[int]:
    texts = (system.read_text(folder / name) for folder in policies)
    return [int(text) * 1000 for text in texts if text.isdigit()]


def _cpuinfo_frequencies_hz(root: Path) -> list[int]:
    megahertz = re.findall(r"^cpu MHz\s*: ([\d.]+)$", system.read_text(root / "proc/cpuinfo"), re.MULTILINE)
    return [round(float(value) * 1e6) for value in megahertz]


def _temperature_celsius(root: Path) -> float | None:
    """The hottest sensor that is the CPU's by its name; where none is, the hottest of all thermal zones."""
    sensors = [*_thermal_zones(root), *_hwmon_temperatures(root)]
    of_cpu = [celsius for name, celsius in sensors if CPU_SENSOR.search(name)]
    zones = [celsius for _, celsius in _thermal_zones(root)]
    return max(of_cpu or zones, default=None)


def _thermal_zones(root: Path) -> list[tuple[str, float]]:
    folders = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return [(system.read_text(folder / "type"), value) for folder in folders if (value := _celsius(folder / "temp"))]


def _hwmon_temperatures(root: Path) -> list[tuple[str, float]]:
    files = sorted((root / "sys/class/hwmon").glob("hwmon*/temp*_input"))
    return [(system.read_text(file.parent / "name"), value) for file in files if (value := _celsius(file))]


def _celsius(file: Path) -> float | None:
    text = system.read_text(file)
    value = int(text) / 1000 if re.fullmatch(r"-?\d+", text) else None
    return value if value is not None and round(value) in PLAUSIBLE_CELSIUS else None


def _throttle_count(root: Path) -> int | None:
    """x86: times that each core throttled, and each package, which all its CPUs show: the largest."""
    files = list((root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    counts: dict[str, list[int]] = {}
    for file in files:
        counts.setdefault(file.name, []).append(int(system.read_text(file) or 0))
    return sum(map(max, counts.values())) if counts else None


def _pi_firmware_word(root: Path) -> int:
    """Kernels of Raspberry Pi OS show it as a file; with others its own tool asks the firmware."""
    texts = [system.read_text(file) for file in root.glob(PI_FIRMWARE)]
    if not texts and root == Path("/") and shutil.which(PI_TOOL):
        texts = [_pi_tool_answer().rpartition("=")[2]]
    return next((int(text, 16) for text in texts if re.fullmatch(r"(0x)?[0-9a-f]+", text)), 0)


def _pi_tool_answer() -> str:
    """Such as throttled=0x50000; empty where the tool does not work."""
    try:
        done = subprocess.run([PI_TOOL, "get_throttled"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _firmware_sentences(word: int) -> list[str]:
    return [sentence for bit, sentence in PI_THROTTLING.items() if word >> bit & 1]


def _active_cooling(root: Path) -> list[str]:
    """Linux lowers a CPU's frequency as a "cooling device" when it is hot; state 0 means that it does not."""
    for folder in (root / "sys/class/thermal").glob("cooling_device*"):
        is_cpu = "cpufreq" in system.read_text(folder / "type")
        if is_cpu and system.read_text(folder / "cur_state") not in ("", "0"):
            return ["the kernel lowers the frequency against heat"]
    return []
