"""What the cores of this machine are called: Arm's by the numbers that Linux prints for them, Intel's by their kind.

The numbers are those of the Main ID Register, as each core's Technical Reference Manual gives them; Apple's are those
that Linux knows (arch/arm64/include/asm/cputype.h).
"""

from __future__ import annotations

import re
from pathlib import Path

from edgellama import system
from edgellama.topology import Topology

CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4b"): "Cortex-A78C",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
    ("0x51", "0x001"): "Oryon",
    ("0x61", "0x022"): "Icestorm",
    ("0x61", "0x023"): "Firestorm",
    ("0x61", "0x032"): "Blizzard",
    ("0x61", "0x033"): "Avalanche",
    ("0xc0", "0xac3"): "Ampere-1",
}


def core_name(implementer: str, part: str) -> str | None:
    """Such as "Cortex-A76" for 0x41 and 0xd0b; None for numbers that are not in the table."""
    return CORES.get((implementer.lower(), part.lower()))


def core_names(root: Path, topology: Topology) -> dict[int, str]:
    """Logical CPU -> what its core is called, where that is known; `root` has a /proc."""
    names = {cpu.index: cpu.kind for cpu in topology.cpus if cpu.kind is not None}
    for block in system.read_text(root / "proc/cpuinfo").split("\n\n"):
        fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", block, re.MULTILINE))
        name = core_name(fields.get("CPU implementer", ""), fields.get("CPU part", ""))
        if name and fields.get("processor", "").isdigit():
            names[int(fields["processor"])] = name
    return names
