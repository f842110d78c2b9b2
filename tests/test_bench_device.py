"""The device record and what moves on a device, on the recorded trees of five machines."""

import getpass
import json
import os
import platform
import socket
from pathlib import Path

import pytest
from device_trees import (
    CPU,
    SECRET,
    TREES,
    amd_desktop,
    cloud_vm,
    intel_laptop,
    raspberry_pi_5,
    rk3588_board,
    thermal_zone,
    write_tree,
)

from bench import device, device_state, gpus
from bench.device_state import read_state, reasons_for_doubt


def described(tmp_path, tree):
    return device.describe(write_tree(tmp_path, tree))


@pytest.mark.parametrize("name", TREES)
def test_nothing_of_the_record_identifies_the_machine(tmp_path, name):
    text = json.dumps(described(tmp_path, TREES[name]()))
    assert SECRET not in text
    assert str(tmp_path) not in text and "/sys" not in text


def test_the_record_of_this_machine_is_anonymous():
    text = json.dumps(device.describe())
    unique = {socket.gethostname(), platform.node(), str(Path.home()), str(Path.cwd())}
    unique |= {name for name in (getpass.getuser(),) if len(name) > 3}  # shorter ones may be part of a word
    machine_id = Path("/etc/machine-id")
    unique |= {machine_id.read_text().strip()} if machine_id.exists() else set()
    assert not [word for word in unique if len(word) > 3 and f'"{word}"' in text]
    assert str(Path.home()) not in text or str(Path.home()) == "/"


def test_record_of_this_machine_has_its_instruction_set():
    record = device.describe()
    assert record["cpu"]["isa"] and record["cpu"]["machine"] == platform.machine()
    assert record["memory"]["total_bytes"] > 1 << 28


def test_raspberry_pi(tmp_path):
    record = described(tmp_path, raspberry_pi_5())
    assert record["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert record["cpu"]["model"] == "Cortex-A76"
    assert record["cpu"]["core_kinds"] == [
        {"name": "Cortex-A76", "cores": 4, "logical_cpus": 4, "capacity": 1024, "max_frequency_hz": 2_400_000_000}
    ]
    assert record["caches"] == [
        {"level": 1, "size_bytes": 64 << 10, "count": 4},
        {"level": 2, "size_bytes": 512 << 10, "count": 4},
        {"level": 3, "size_bytes": 2 << 20, "count": 1},
    ]
    assert record["memory"] == {"total_bytes": 8245172 * 1024}
    assert record["gpus"] == ["brcm,2712-v3d (v3d)"]
    assert record["system"] == {"name": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.6.31"}
    assert record["virtualization"] == {"machine": None, "container": None}
    state = record["state"]
    assert state["governors"] == ["ondemand"] and state["temperature_celsius"] == 84.75
    assert state["frequencies_hz"] == [1_500_000_000] and state["max_frequencies_hz"] == [2_400_000_000]
    assert state["throttling"] == ["the firmware throttles the CPU"]
    assert state["throttled_before"] == ["the supply voltage is too low", "the firmware throttles the CPU"]


def test_big_and_little_cores(tmp_path):
    record = described(tmp_path, rk3588_board())
    kinds = record["cpu"]["core_kinds"]
    assert [(kind["name"], kind["cores"], kind["capacity"]) for kind in kinds] == [
        ("Cortex-A76", 2, 1024), ("Cortex-A76", 2, 1024), ("Cortex-A55", 4, 414),
    ]  # fmt: skip
    assert [kind["max_frequency_hz"] // 1_000_000 for kind in kinds] == [2400, 2256, 1800]
    assert record["cpu"]["model"] == "Cortex-A76 + Cortex-A55"
    assert record["system"]["kernel"] == "6.1.43", "the name that somebody gave a kernel is left out"
    assert record["state"]["temperature_celsius"] == 78.5, "the NPU is hotter, but no CPU"
    assert record["state"]["throttling"] == ["the kernel lowers the frequency against heat"]
    assert "rockchip,rk3588-mali (panthor)" in record["gpus"]


def test_two_kinds_of_x86_cores(tmp_path):
    record = described(tmp_path, intel_laptop())
    kinds = record["cpu"]["core_kinds"]
    assert [(kind["name"], kind["cores"], kind["logical_cpus"]) for kind in kinds] == [
        ("P-core", 4, 8),
        ("E-core", 8, 8),
    ]
    assert record["cpu"]["physical_cores"] == 12 and record["cpu"]["threads_per_core"] == 2
    assert record["board"] == "LENOVO 21CB000FUS" and record["gpus"] == ["Intel 0x46a6 (i915)"]
    assert record["state"]["temperature_celsius"] == 62.0
    assert record["state"]["throttle_count"] == 43, "3 of the worst core and 40 of the package, which all CPUs show"
    assert {"level": 3, "size_bytes": 18 << 20, "count": 1} in record["caches"]
    assert {"level": 2, "size_bytes": 2 << 20, "count": 2} in record["caches"]


def test_desktop_with_a_graphics_card(tmp_path):
    record = described(tmp_path, amd_desktop())
    assert record["cpu"]["model"] == "AMD Ryzen 9 7950X 16-Core Processor"
    assert record["cpu"]["physical_cores"] == 16 and record["cpu"]["logical_cpus"] == 32
    assert record["board"] == "X670E Pro RS", "a placeholder is no vendor"
    assert record["gpus"] == ["NVIDIA GeForce RTX 3060", "AMD 0x164e (amdgpu)"]
    assert record["state"]["temperature_celsius"] == 68.5, "not that of the SSD"
    assert {"level": 3, "size_bytes": 32 << 20, "count": 2} in record["caches"]


def test_virtual_machine_that_tells_nothing(tmp_path):
    record = described(tmp_path, cloud_vm())
    assert record["virtualization"] == {"machine": "Amazon EC2", "container": "Docker"}
    assert record["cpu"]["quota_cpus"] == 1.5
    assert record["caches"] == [] and record["gpus"] == []
    state = record["state"]
    assert state["governors"] == [] and state["temperature_celsius"] is None and state["throttle_count"] is None
    assert state["frequencies_hz"] == [2_400_500_000, 2_401_500_000], "what /proc/cpuinfo says"


def test_empty_root(tmp_path):
    record = described(tmp_path, {})
    assert record["board"] is None and record["memory"] == {"total_bytes": None}
    assert record["state"]["throttling"] == []


def test_nvidia_library_names_gpus_where_the_driver_shows_no_files(monkeypatch):
    class Library:
        @staticmethod
        def names():
            return ["NVIDIA H100 80GB HBM3"]

    monkeypatch.setattr(gpus, "open_nvml", Library)
    monkeypatch.setattr(gpus, "_nvidia_driver", lambda root: [])
    monkeypatch.setattr(gpus, "_display_devices", lambda root: ["NVIDIA 0x2330 (nvidia)", "ASPEED 0x2000 (ast)"])
    assert gpus.describe_gpus() == ["NVIDIA H100 80GB HBM3", "ASPEED 0x2000 (ast)"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2"}, "WSL"),
        ({"proc/cpuinfo": "processor: 0\nflags\t\t: fpu hypervisor"}, "unknown hypervisor"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU", "proc/cpuinfo": "processor: 0\nCPU part: 0xd0c"}, "QEMU/KVM"),
        ({"sys/class/dmi/id/sys_vendor": "Xenon Systems", "proc/cpuinfo": "x\nflags\t\t: fpu avx2"}, None),
        ({}, None),
    ],
)
def test_hypervisors(tmp_path, files, expected):
    assert described(tmp_path, files)["virtualization"]["machine"] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("run/.containerenv", "Podman"), (".dockerenv", "Docker"), ("unrelated", None)],
)
def test_container_marks(tmp_path, name, expected):
    assert described(tmp_path, {name: ""})["virtualization"]["container"] == expected


def test_firmware_word_in_the_form_that_vcgencmd_prints(tmp_path):
    tree = {"sys/devices/platform/soc/soc:firmware/get_throttled": "0x50005"}
    state = read_state(write_tree(tmp_path, tree))
    assert state.throttling == ("the supply voltage is too low", "the firmware throttles the CPU")
    assert state.throttled_before == state.throttling


@pytest.mark.skipif(os.name == "nt", reason="the tool is a shell script here")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo throttled=0x50005", ("the supply voltage is too low", "the firmware throttles the CPU")),
        ("echo VCHI initialization failed; exit 255", ()),
    ],
)
def test_tool_of_the_raspberry_pi_is_asked_where_no_file_is(tmp_path, monkeypatch, script, expected):
    tool = tmp_path / "vcgencmd"
    tool.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && {script}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(device_state, "PI_FIRMWARE", "sys/nothing/get_throttled")
    monkeypatch.setattr(device_state, "_active_cooling", lambda root: [])
    assert read_state().throttling == expected


def test_sensors_that_are_not_there_are_left_out(tmp_path):
    tree = thermal_zone(0, "cpu-thermal", -274000) | thermal_zone(1, "acpitz", 48000)
    assert read_state(write_tree(tmp_path, tree)).temperature_celsius == 48.0


def test_a_quiet_machine_gives_no_doubt(tmp_path):
    state = read_state(write_tree(tmp_path, amd_desktop()))
    assert reasons_for_doubt(state, state) == []


def test_throttling_and_slower_clocks_give_doubt(tmp_path):
    root = write_tree(tmp_path, intel_laptop())
    before = read_state(root)
    for index in range(16):
        (root / f"{CPU}/cpu{index}/thermal_throttle/package_throttle_count").write_text("47\n")
    (root / f"{CPU}/cpufreq/policy3/scaling_cur_freq").write_text("1600000\n")
    (root / f"{CPU}/cpufreq/policy4/scaling_cur_freq").write_text("3000000\n")  # 6 % less is no drop
    assert reasons_for_doubt(before, read_state(root)) == [
        "the CPU throttled itself 7 times", "a frequency fell from 3200 to 1600 MHz",
    ]  # fmt: skip


def test_what_held_a_device_back_before_the_run_is_no_doubt(tmp_path):
    tree = raspberry_pi_5()
    tree["sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"] = "50000"
    state = read_state(write_tree(tmp_path, tree))
    assert state.throttled_before and reasons_for_doubt(state, state) == []
