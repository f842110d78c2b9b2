"""Small copies of /proc and /sys as seven machines show them, as dicts of path -> text; made up, but in the true form.

Each holds what must not get into a shared record: host names, serial numbers, addresses and ids, all with SECRET.

Where the facts of big and little cores are from: capacities are `capacity-dmips-mhz` times the highest frequency,
scaled to 1024 for the best core, as drivers/base/arch_topology.c computes them, and the device trees of Linux say 530
and 1024 in rockchip/rk3588-base.dtsi (at 1800 and 2304 MHz), 448 and 1024 in qcom/sm8250.dtsi (Snapdragon 865: 1804.8,
2419.2 and 2841.6 MHz), 714 and 1024 in apple/t8103.dtsi (M1: 2064 and 3204 MHz). The BCM2712 of the Raspberry Pi 5 has
one kind of core. Intel's product page has the cores, threads and frequencies of the Core i7-1260P. Part numbers are
those of arch/arm64/include/asm/cputype.h.
"""

from pathlib import Path

Tree = dict[str, str]
SECRET = "s3cr3t"
CPU = "sys/devices/system/cpu"


def write_tree(root: Path, tree: Tree) -> Path:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def identities() -> Tree:
    """Files with unique facts that exist on most machines."""
    return {
        "etc/hostname": SECRET,
        "proc/sys/kernel/hostname": SECRET,
        "etc/machine-id": SECRET,
        "proc/version": f"Linux version 6.6.0 (root@{SECRET}) #1 SMP",
        "proc/cmdline": f"root=UUID={SECRET} hostname={SECRET}",
        "sys/class/net/eth0/address": SECRET,
    }


def cores(
    groups: list[list[int]], siblings: dict[int, str] | None = None, capacities: dict[int, int] | None = None
) -> Tree:
    """Topology of logical CPUs; one list for each package."""
    online = [index for group in groups for index in group]
    tree = {f"{CPU}/online": ",".join(map(str, online))}
    for package, group in enumerate(groups):
        for number, index in enumerate(group):
            folder = f"{CPU}/cpu{index}"
            tree[f"{folder}/topology/physical_package_id"] = str(package)
            tree[f"{folder}/topology/core_id"] = str(number)
            tree[f"{folder}/topology/thread_siblings_list"] = (siblings or {}).get(index, str(index))
            if capacities:
                tree[f"{folder}/cpu_capacity"] = str(capacities[index])
    return tree


def cache(index: int, number: int, level: int, kind: str, size: str, shared: str) -> Tree:
    folder = f"{CPU}/cpu{index}/cache/index{number}"
    return {
        f"{folder}/level": str(level),
        f"{folder}/type": kind,
        f"{folder}/size": size,
        f"{folder}/shared_cpu_list": shared,
    }


def policy(cpus: list[int], governor: str, now_khz: int, max_khz: int) -> Tree:
    """A group of CPUs that change frequency together; each CPU has a link to it, here a copy of one file."""
    folder = f"{CPU}/cpufreq/policy{cpus[0]}"
    tree = {f"{CPU}/cpu{index}/cpufreq/cpuinfo_max_freq": str(max_khz) for index in cpus}
    return tree | {
        f"{folder}/scaling_governor": governor,
        f"{folder}/scaling_cur_freq": str(now_khz),
        f"{folder}/scaling_max_freq": str(max_khz),
        f"{folder}/cpuinfo_max_freq": str(max_khz),
    }


def merged(*trees: Tree) -> Tree:
    return {name: text for tree in trees for name, text in tree.items()}


def arm_cpuinfo(parts: list[str]) -> str:
    block = "processor\t: {}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    return "\n".join(block.format(index, part) for index, part in enumerate(parts)) + f"\nSerial\t\t: {SECRET}"


def x86_cpuinfo(name: str, n_cpus: int, flags: str) -> str:
    block = "processor\t: {}\nvendor_id\t: x\nmodel name\t: {}\ncpu MHz\t\t: {}.500\nflags\t\t: {}\n"
    return "\n".join(block.format(index, name, 2400 + index, flags) for index in range(n_cpus))


def raspberry_pi_5() -> Tree:
    """Hot and on a weak supply: the firmware word says throttled now, and too low a voltage earlier."""
    four = [0, 1, 2, 3]
    own_caches = [cache(i, n, 1, kind, "64K", str(i)) for i in four for n, kind in enumerate(("Data", "Instruction"))]
    return merged(
        identities(),
        cores([four], capacities=dict.fromkeys(four, 1024)),
        *own_caches,
        *(cache(i, 2, 2, "Unified", "512K", str(i)) for i in four),
        *(cache(i, 3, 3, "Unified", "2048K", "0-3") for i in four),
        policy(four, "ondemand", 1_500_000, 2_400_000),
        {
            "proc/cpuinfo": arm_cpuinfo(["0xd0b"] * 4),
            "proc/meminfo": "MemTotal:        8245172 kB\nMemAvailable:    7011524 kB",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/device-tree/serial-number": SECRET,
            "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712",
            "proc/sys/kernel/osrelease": "6.6.31+rpt-rpi-2712",
            "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"',
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": "84750",
            "sys/class/thermal/cooling_device0/type": "pwm-fan",
            "sys/class/thermal/cooling_device0/cur_state": "4",
            "sys/class/hwmon/hwmon0/name": "cpu_thermal",
            "sys/class/hwmon/hwmon0/temp1_input": "84750",
            "sys/class/hwmon/hwmon1/name": "rp1_adc",
            "sys/class/hwmon/hwmon1/temp1_input": "63921",
            "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50004",
            "sys/class/drm/card0/device/uevent": "DRIVER=v3d\nOF_NAME=v3d\nOF_COMPATIBLE_0=brcm,2712-v3d",
        },
    )


def rk3588_board() -> Tree:
    """Four Cortex-A55 and two pairs of Cortex-A76, with an INA226 on the supply; the kernel cools the big ones."""
    little, big = [0, 1, 2, 3], [4, 5, 6, 7]
    capacities = dict.fromkeys(little, 414) | dict.fromkeys(big, 1024)
    zones = {"soc": 71000, "bigcore0": 78500, "bigcore1": 77000, "littlecore": 70000, "center": 69000, "npu": 88000}
    thermal = [thermal_zone(number, f"{name}-thermal", value) for number, (name, value) in enumerate(zones.items())]
    return merged(
        identities(),
        cores([[*little, *big]], capacities=capacities),
        *(cache(i, 0, 1, "Data", "32K" if i in little else "64K", str(i)) for i in (*little, *big)),
        *(cache(i, 2, 2, "Unified", "128K" if i in little else "512K", str(i)) for i in (*little, *big)),
        *(cache(i, 3, 3, "Unified", "3072K", "0-7") for i in (*little, *big)),
        policy(little, "performance", 1_800_000, 1_800_000),
        policy([4, 5], "performance", 1_608_000, 2_400_000),
        policy([6, 7], "performance", 2_256_000, 2_256_000),
        *thermal,
        {
            "proc/cpuinfo": arm_cpuinfo(["0xd05"] * 4 + ["0xd0b"] * 4),
            "proc/meminfo": "MemTotal:       16359012 kB\nMemAvailable:   15000000 kB",
            "proc/device-tree/model": "Radxa ROCK 5B\0",
            "proc/device-tree/serial-number": SECRET,
            "proc/sys/kernel/osrelease": f"6.1.43-15-rk2312-{SECRET}",
            "etc/os-release": 'PRETTY_NAME="Armbian 24.5.1 bookworm"',
            "sys/class/thermal/cooling_device0/type": "cpufreq-cpu4",
            "sys/class/thermal/cooling_device0/cur_state": "2",
            "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0",
            "sys/class/thermal/cooling_device1/cur_state": "0",
            "sys/class/hwmon/hwmon2/name": "ina226",
            "sys/class/hwmon/hwmon2/power1_input": "9250000",
            "sys/class/drm/card0/device/uevent": "DRIVER=rockchip-drm\nOF_COMPATIBLE_0=rockchip,display-subsystem",
            "sys/class/drm/card1/device/uevent": "DRIVER=panthor\nOF_COMPATIBLE_0=rockchip,rk3588-mali",
        },
    )


def intel_laptop() -> Tree:
    """A Core i7-1260P: 4 P-cores with two threads, 8 E-cores, RAPL, on battery; it throttled since it was started."""
    p_cpus, e_cpus = list(range(8)), list(range(8, 16))
    siblings = {index: f"{index // 2 * 2}-{index // 2 * 2 + 1}" for index in p_cpus}
    throttles = [
        {
            f"{CPU}/cpu{i}/thermal_throttle/core_throttle_count": str(3 if i == 2 else 1),
            f"{CPU}/cpu{i}/thermal_throttle/package_throttle_count": "40",
        }
        for i in (*p_cpus, *e_cpus)
    ]
    return merged(
        identities(),
        cores([[*p_cpus, *e_cpus]], siblings),
        *(cache(i, 0, 1, "Data", "48K", siblings[i]) for i in p_cpus),
        *(cache(i, 0, 1, "Data", "32K", str(i)) for i in e_cpus),
        *(cache(i, 2, 2, "Unified", "1280K", siblings[i]) for i in p_cpus),
        *(cache(i, 2, 2, "Unified", "2048K", "8-11" if i < 12 else "12-15") for i in e_cpus),
        *(cache(i, 3, 3, "Unified", "18432K", "0-15") for i in (*p_cpus, *e_cpus)),
        *(policy([i], "powersave", 3_200_000 + i, 4_700_000) for i in p_cpus),
        *(policy([i], "powersave", 2_500_000, 3_400_000) for i in e_cpus),
        *throttles,
        rapl_zone("intel-rapl:0", "package-0", 262_143_328_850, 5_000_000),
        rapl_zone("intel-rapl:0:0", "core", 262_143_328_850, 3_000_000),
        rapl_zone("intel-rapl:0:1", "uncore", 262_143_328_850, 100_000),
        rapl_zone("intel-rapl:1", "psys", 262_143_328_850, 9_000_000),
        rapl_zone("intel-rapl-mmio:0", "package-0", 262_143_328_850, 5_000_000),
        {
            "sys/devices/cpu_core/cpus": "0-7",
            "sys/devices/cpu_atom/cpus": "8-15",
            "proc/cpuinfo": x86_cpuinfo("12th Gen Intel(R) Core(TM) i7-1260P", 16, "fpu avx2 avx_vnni"),
            "proc/meminfo": "MemTotal:       15974816 kB\nMemAvailable:   12000000 kB",
            "proc/sys/kernel/osrelease": "6.8.0-45-generic",
            "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"',
            "sys/class/dmi/id/sys_vendor": "LENOVO",
            "sys/class/dmi/id/product_name": "21CB000FUS",
            "sys/class/dmi/id/product_serial": SECRET,
            "sys/class/dmi/id/product_uuid": SECRET,
            "sys/class/thermal/thermal_zone0/type": "INT3400 Thermal",
            "sys/class/thermal/thermal_zone0/temp": "20000",
            "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
            "sys/class/thermal/thermal_zone1/temp": "61000",
            "sys/class/hwmon/hwmon3/name": "coretemp",
            "sys/class/hwmon/hwmon3/temp1_input": "62000",
            "sys/class/hwmon/hwmon5/name": "BAT0",
            "sys/class/hwmon/hwmon5/power1_input": "11500000",
            "sys/class/power_supply/AC/type": "Mains",
            "sys/class/power_supply/BAT0/type": "Battery",
            "sys/class/power_supply/BAT0/status": "Discharging",
            "sys/class/power_supply/BAT0/power_now": "11500000",
            "sys/class/power_supply/BAT0/serial_number": SECRET,
            "sys/class/power_supply/hidpp_battery_0/type": "Battery",
            "sys/class/power_supply/hidpp_battery_0/scope": "Device",
            "sys/class/power_supply/hidpp_battery_0/status": "Discharging",
            "sys/class/power_supply/hidpp_battery_0/power_now": "1000",
            "sys/class/drm/card1/device/vendor": "0x8086",
            "sys/class/drm/card1/device/device": "0x46a6",
            "sys/class/drm/card1/device/uevent": f"DRIVER=i915\nPCI_SLOT_NAME={SECRET}",
        },
    )


def amd_desktop() -> Tree:
    """A Ryzen 9 7950X on two chiplets, with an NVIDIA card and AMD's own energy counters of cores and socket."""
    cpus = list(range(32))
    siblings = {index: f"{index % 16},{index % 16 + 16}" for index in cpus}
    return merged(
        identities(),
        cores([cpus], siblings),
        *(cache(i, 0, 1, "Data", "32K", siblings[i]) for i in cpus),
        *(cache(i, 2, 2, "Unified", "1024K", siblings[i]) for i in cpus),
        *(cache(i, 3, 3, "Unified", "32768K", "0-7,16-23" if i % 16 < 8 else "8-15,24-31") for i in cpus),
        *(policy([i], "schedutil", 4_500_000, 5_881_000) for i in cpus),
        rapl_zone("intel-rapl:0", "package-0", 65_532_610_987, 65_532_000_000),
        rapl_zone("intel-rapl:0:0", "core", 65_532_610_987, 1_000_000),
        {
            "proc/cpuinfo": x86_cpuinfo("AMD Ryzen 9 7950X 16-Core Processor", 32, "fpu avx2 avx512f avx512_vnni"),
            "proc/meminfo": "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB",
            "proc/sys/kernel/osrelease": "6.10.3-arch1-2",
            "etc/os-release": 'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"',
            "sys/class/dmi/id/sys_vendor": "To Be Filled By O.E.M.",
            "sys/class/dmi/id/product_name": "X670E Pro RS",
            "sys/class/hwmon/hwmon0/name": "nvme",
            "sys/class/hwmon/hwmon0/temp1_input": "95850",
            "sys/class/hwmon/hwmon2/name": "k10temp",
            "sys/class/hwmon/hwmon2/temp1_input": "68500",
            "sys/class/hwmon/hwmon3/name": "sfp",
            "sys/class/hwmon/hwmon3/power1_input": "1000",
            "sys/class/hwmon/hwmon4/name": "amd_energy",
            "sys/class/hwmon/hwmon4/energy1_input": "200000000",
            "sys/class/hwmon/hwmon4/energy1_label": "Ecore000",
            "sys/class/hwmon/hwmon4/energy33_input": "7000000000",
            "sys/class/hwmon/hwmon4/energy33_label": "Esocket0",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": (
                f"Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   \t\t 80\nGPU UUID: \t {SECRET}\nBus Type: \t PCIe"
            ),
            "sys/class/drm/card0/device/vendor": "0x10de",
            "sys/class/drm/card0/device/device": "0x2503",
            "sys/class/drm/card0/device/uevent": "DRIVER=nvidia",
            "sys/class/drm/card1/device/vendor": "0x1002",
            "sys/class/drm/card1/device/device": "0x164e",
            "sys/class/drm/card1/device/uevent": "DRIVER=amdgpu",
        },
    )


def cloud_vm() -> Tree:
    """Two virtual CPUs in a container: no frequency, no temperature, no energy."""
    return merged(
        identities(),
        cores([[0, 1]]),
        {
            "proc/cpuinfo": x86_cpuinfo(
                "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", 2, "fpu avx2 hypervisor avx512f"
            ),
            "proc/meminfo": "MemTotal:        7864320 kB\nMemAvailable:    7000000 kB",
            "proc/sys/kernel/osrelease": "5.15.0-1051-aws",
            "proc/1/cgroup": f"0::/docker/{SECRET}",
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/cpu.max": "150000 100000",
            "sys/class/dmi/id/sys_vendor": "Amazon EC2",
            "sys/class/dmi/id/product_name": "m6i.large",
            "sys/class/dmi/id/board_asset_tag": SECRET,
        },
    )


def snapdragon_phone() -> Tree:
    """A Snapdragon 865 as an app sees it: a prime and three more Cortex-A77, four Cortex-A55; no caches are told."""
    little, gold, prime = [0, 1, 2, 3], [4, 5, 6], [7]
    capacities = dict.fromkeys(little, 284) | dict.fromkeys(gold, 871) | {7: 1024}
    return merged(
        identities(),
        cores([[*little, *gold, *prime]], capacities=capacities),
        policy(little, "schedutil", 691_200, 1_804_800),
        policy(gold, "schedutil", 1_478_400, 2_419_200),
        policy(prime, "schedutil", 1_862_400, 2_841_600),
        {
            "proc/cpuinfo": arm_cpuinfo(["0xd05"] * 4 + ["0xd0d"] * 4),
            "proc/meminfo": "MemTotal:        7706228 kB\nMemAvailable:    3300000 kB",
            "proc/sys/kernel/osrelease": "4.19.157-perf",
        },
    )


def apple_m1() -> Tree:
    """An M1 under Linux: four Icestorm and four Firestorm, each four with a second-level cache of their own."""
    little, big = [0, 1, 2, 3], [4, 5, 6, 7]
    cpuinfo = arm_cpuinfo(["0x022"] * 4 + ["0x023"] * 4).replace("0x41", "0x61")
    return merged(
        identities(),
        cores([[*little, *big]], capacities=dict.fromkeys(little, 460) | dict.fromkeys(big, 1024)),
        *(cache(i, 0, 1, "Data", "64K" if i in little else "128K", str(i)) for i in (*little, *big)),
        *(cache(i, 2, 2, "Unified", "4096K", "0-3") for i in little),
        *(cache(i, 2, 2, "Unified", "12288K", "4-7") for i in big),
        policy(little, "schedutil", 600_000, 2_064_000),
        policy(big, "schedutil", 600_000, 3_204_000),
        {
            "proc/cpuinfo": cpuinfo,
            "proc/meminfo": "MemTotal:        7945216 kB\nMemAvailable:    6000000 kB",
            "proc/device-tree/model": "Apple Mac mini (M1, 2020)\0",
            "proc/device-tree/serial-number": SECRET,
            "proc/sys/kernel/osrelease": "6.9.10-asahi",
        },
    )


def thermal_zone(number: int, name: str, millicelsius: int) -> Tree:
    folder = f"sys/class/thermal/thermal_zone{number}"
    return {f"{folder}/type": name, f"{folder}/temp": str(millicelsius)}


def rapl_zone(zone: str, name: str, range_uj: int, energy_uj: int) -> Tree:
    folder = f"sys/class/powercap/{zone}"
    return {
        f"{folder}/name": name,
        f"{folder}/max_energy_range_uj": str(range_uj),
        f"{folder}/energy_uj": str(energy_uj),
    }


TREES = {
    "raspberry-pi-5": raspberry_pi_5,
    "rk3588": rk3588_board,
    "intel-laptop": intel_laptop,
    "amd-desktop": amd_desktop,
    "snapdragon-phone": snapdragon_phone,
    "apple-m1": apple_m1,
    "cloud-vm": cloud_vm,
}
