"""`python -m edgellama.doctor.gpu`: the GPUs that the NVIDIA driver shows, as JSON.

Runs in a process of its own, because a driver in trouble may crash or never answer.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from .. import system
from ..compiler.children import child_environment
from ..cuda.device import Device, device_count
from ..cuda.library import NoDriverError, load_library, open_library
from ..errors import EdgellamaError
from .finding import NOTE, WELL, Finding

DRIVER_FOLDER = Path("/proc/driver/nvidia")  # of Linux, there as soon as the kernel's part of the driver is loaded
COMMAND = [sys.executable, "-P", "-m", "edgellama.doctor.gpu"]
TIMEOUT_SECONDS = 30  # a driver that nothing keeps loaded wakes one GPU after the other


def check_gpu() -> Finding:
    """Each GPU with its memory and driver, or why there is none. Never wrong: no GPU is needed."""
    cards = _cards_of_driver()
    facts = {"nvidia": cards, "driver": _driver_release(), "devices": []}
    try:
        open_library()
    except EdgellamaError as error:
        state = WELL if isinstance(error, NoDriverError) and not cards else NOTE
        return Finding("GPU", state, "\n".join([*cards, f"{error}; a GPU is not needed"]), facts)
    answer = _asked()
    facts |= answer
    lines = [_as_text(device, facts["driver"]) for device in answer["devices"]]
    if answer["problem"]:
        lines.append(f"{answer['problem']}; a GPU is not needed")
    return Finding("GPU", NOTE if answer["problem"] else WELL, "\n".join(lines), facts)


def described() -> dict:
    """Facts of each GPU, sizes in bytes, and in one sentence what is wrong with the next one."""
    devices, problem = [], ""
    try:
        load_library()
        for index in range(device_count()):
            with Device(index) as device:
                devices.append(_facts(device))
    except EdgellamaError as error:
        problem = str(error)
    return {"devices": devices, "problem": problem}


def _facts(device: Device) -> dict:
    return {
        "name": device.name,
        "compute_capability": list(device.compute_capability),
        "multiprocessors": device.n_multiprocessors,
        "memory_bytes": device.memory_bytes,
        "free_bytes": device.free_bytes(),
        "cuda_version": list(device.driver_version),
    }


def _asked() -> dict:
    """What the child process says."""
    environment = child_environment()
    try:
        done = subprocess.run(
            COMMAND, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=environment, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        problem = (
            f"the NVIDIA driver did not answer within {TIMEOUT_SECONDS} s: look at nvidia-smi and the system's log"
        )
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        problem = "the NVIDIA driver crashed when it was asked for its GPUs: look at nvidia-smi and the system's log"
    return {"devices": [], "problem": problem}


def _as_text(device: dict, release: str) -> str:
    capability, cuda = (".".join(map(str, device[name])) for name in ("compute_capability", "cuda_version"))
    memory = f"{device['free_bytes'] / 1e9:.1f} of {device['memory_bytes'] / 1e9:.1f} GB free"
    driver = f"driver {release} (CUDA {cuda})" if release else f"driver for CUDA {cuda}"
    return f"{device['name']}, compute capability {capability}, {memory}, {driver}"


def _cards_of_driver() -> list[str]:
    """Names that the Linux driver tells without any program."""
    names = []
    for file in sorted(DRIVER_FOLDER.glob("gpus/*/information")):
        fields = dict(line.split(":", 1) for line in system.read_text(file).splitlines() if ":" in line)
        names.append(fields.get("Model", "unknown model").strip())
    return names


def _driver_release() -> str:
    """Such as 580.95.05; empty where only libcuda tells of the driver."""
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", system.read_text(DRIVER_FOLDER / "version"))
    return found[0] if found else ""


if __name__ == "__main__":
    print(json.dumps(described()))
