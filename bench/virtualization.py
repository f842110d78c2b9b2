"""Whether a hypervisor or a container stands between this process and the machine: figures vary more there."""

from __future__ import annotations

from pathlib import Path

from edgellama import system

HYPERVISORS = {  # a word of the firmware's vendor or product name -> the hypervisor
    "qemu": "QEMU/KVM",
    "kvm": "QEMU/KVM",
    "amazon ec2": "Amazon EC2",
    "google compute engine": "Google Compute Engine",
    "vmware": "VMware",
    "virtualbox": "VirtualBox",
    "microsoft corporation virtual machine": "Hyper-V",
    "xen": "Xen",
    "parallels": "Parallels",
    "apple virtualization": "Apple Virtualization",
}
CONTAINERS = {"docker": "Docker", "kubepods": "Kubernetes", "libpod": "Podman", "lxc": "LXC"}


def describe_virtualization(root: Path) -> dict[str, str | None]:
    """{"machine": hypervisor or None, "container": kind or None}."""
    return {"machine": hypervisor(root), "container": container(root)}


def hypervisor(root: Path) -> str | None:
    if "microsoft" in system.read_text(root / "proc/sys/kernel/osrelease").lower():
        return "WSL"
    flags = system.read_text(root / "proc/cpuinfo").partition("\nflags")[2].partition("\n")[0]
    virtual = "hypervisor" in flags.split() or "dummy-virt" in system.read_text(root / "proc/device-tree/compatible")
    names = (system.read_text(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    firmware = " ".join(names).lower()
    # An x86 CPU says itself that it is virtual, and "kvm" may also stand in the name of a real board.
    if not flags or virtual:
        for word, name in HYPERVISORS.items():
            if word in firmware:
                return name
    return "unknown hypervisor" if virtual else None


def container(root: Path) -> str | None:
    if (root / "run/.containerenv").exists():
        return "Podman"
    groups = system.read_text(root / "proc/1/cgroup") + system.read_text(root / "run/systemd/container")
    for word, name in CONTAINERS.items():
        if word in groups:
            return name
    return "Docker" if (root / ".dockerenv").exists() else None
