"""Energy readers on recorded trees whose counters the tests move, with a clock of their own."""

import ctypes
import threading

import pytest
from device_trees import amd_desktop, cloud_vm, intel_laptop, rapl_zone, raspberry_pi_5, rk3588_board, write_tree

from bench.energy import Meter
from bench.energy_sources import Counter, PowerSensor, find_sources, nvidia_source
from bench.nvml import Nvml


class Machine:
    """A tree whose files and clock move together."""

    def __init__(self, root, tree):
        self.root, self.now = write_tree(root, tree), 100.0

    def meter(self):
        return Meter(self.root, sample_seconds=None, clock=lambda: self.now)

    def set(self, seconds=0.0, **files):
        self.now += seconds
        for name, text in files.items():
            (self.root / name).write_text(f"{text}\n")

    def move(self, seconds, files):
        self.set(seconds, **files)


RAPL = "sys/class/powercap/intel-rapl:0/energy_uj"
INA = "sys/class/hwmon/hwmon2/power1_input"
BATTERY = "sys/class/power_supply/BAT0"


def only(tree, *prefixes):
    return {name: text for name, text in tree.items() if name.startswith(prefixes)}


def test_rapl_counts_each_package_once_and_subtracts_idle(tmp_path):
    machine = Machine(tmp_path, only(intel_laptop(), "sys/class/powercap"))
    meter = machine.meter()
    meter.measure_idle(4.0, sleep=lambda seconds: machine.move(seconds, {RAPL: 5_000_000 + 8_000_000}))
    with meter.interval() as used:
        machine.move(10.0, {RAPL: 13_000_000 + 170_000_000})
    assert used.per_token(50) == {
        "idle_seconds": 4.0,
        "sources": [
            {
                "source": "RAPL",
                "measures": "CPU packages",
                "seconds": 10.0,
                "joules": pytest.approx(170),
                "average_watts": pytest.approx(17),
                "idle_watts": pytest.approx(2),
                "joules_per_token": pytest.approx(3.4),
                "joules_per_token_above_idle": pytest.approx(3.0),
                "reliable": True,
            }
        ],
    }


def test_rapl_counter_that_starts_again(tmp_path):
    machine = Machine(tmp_path, only(amd_desktop(), "sys/class/powercap"))
    with machine.meter().interval() as used:
        machine.move(10.0, {RAPL: 419_389_013})  # from 65,532 J through the range of 65,532.610987 J
    row = used.per_token(100)["sources"][0]
    assert row["joules"] == pytest.approx(0.610987 + 419.389013)
    assert row["idle_watts"] is None and row["joules_per_token_above_idle"] is None


def test_rapl_adds_the_packages_of_a_server(tmp_path):
    zones = rapl_zone("intel-rapl:0", "package-0", 10**9, 0) | rapl_zone("intel-rapl:1", "package-1", 10**9, 0)
    machine = Machine(tmp_path, zones | rapl_zone("intel-rapl:1:0", "dram", 10**9, 0))
    with machine.meter().interval() as used:
        machine.move(2.0, {RAPL: 3_000_000, RAPL.replace(":0/", ":1/"): 4_000_000})
    assert used.per_token(1)["sources"][0]["joules"] == pytest.approx(7)


def test_rapl_that_only_root_may_read_is_explained(tmp_path):
    tree = only(intel_laptop(), "sys/class/powercap") | {RAPL: ""}
    meter = Machine(tmp_path, tree).meter()
    assert meter.sources == [] and meter.reason.startswith("not available here; RAPL counts energy here, but")


def test_sensor_on_the_supply_of_a_board(tmp_path):
    machine = Machine(tmp_path, rk3588_board())
    meter = machine.meter()
    with meter.interval() as used:
        for microwatts in (9_250_000, 13_250_000, 13_250_000):
            machine.move(1.0, {INA: microwatts})
            meter.sample()
    (row,) = used.per_token(10)["sources"]
    assert (row["source"], row["measures"]) == ("sensor ina226", "supply rail")
    assert row["joules"] == pytest.approx(9.25 + (9.25 + 13.25) / 2 + 13.25)
    assert row["reliable"]


def test_sockets_but_not_their_cores_are_added(tmp_path):
    machine = Machine(tmp_path, only(amd_desktop(), "sys/class/hwmon"))
    with machine.meter().interval() as used:
        folder = "sys/class/hwmon/hwmon4"
        machine.move(5.0, {f"{folder}/energy1_input": 900_000_000, f"{folder}/energy33_input": 7_100_000_000})
    (row,) = used.per_token(1)["sources"]
    assert row["source"] == "sensor amd_energy" and row["joules"] == pytest.approx(100)


def test_board_that_measures_its_input_and_parts_of_it(tmp_path):
    folder = "sys/class/hwmon/hwmon0"
    tree = {f"{folder}/name": "ina3221"}
    for n, label, millivolts, milliamperes in (
        (1, "VDD_IN", 5000, 2000), (2, "VDD_CPU_GPU_CV", 5000, 800), (3, "VDD_SOC", 5000, 400),
    ):  # fmt: skip
        tree[f"{folder}/in{n}_label"] = label
        tree[f"{folder}/in{n}_input"] = str(millivolts)
        tree[f"{folder}/curr{n}_input"] = str(milliamperes)
    machine = Machine(tmp_path, tree)
    with machine.meter().interval() as used:
        machine.move(3.0, {})
    assert used.per_token(1)["sources"][0]["average_watts"] == pytest.approx(10.0)


def test_battery_of_the_machine_but_not_of_its_mouse(tmp_path):
    machine = Machine(tmp_path, only(intel_laptop(), "sys/class/power_supply"))
    with machine.meter().interval() as used:
        machine.move(60.0, {})
    (row,) = used.per_token(100)["sources"]
    assert (row["source"], row["average_watts"], row["reliable"]) == ("battery", pytest.approx(11.5), True)


def test_battery_by_current_and_voltage_of_either_sign(tmp_path):
    tree = {f"{BATTERY}/type": "Battery", f"{BATTERY}/status": "Discharging"}
    tree |= {f"{BATTERY}/current_now": "-1500000", f"{BATTERY}/voltage_now": "8000000"}
    machine = Machine(tmp_path, tree)
    with machine.meter().interval() as used:
        machine.move(10.0, {})
    row = used.per_token(1)["sources"][0]
    assert row["average_watts"] == pytest.approx(12.0)
    assert not row["reliable"], "a battery's figure changes every few seconds only"


def test_battery_that_is_plugged_in_meanwhile_gives_nothing(tmp_path):
    machine = Machine(tmp_path, only(intel_laptop(), "sys/class/power_supply"))
    meter = machine.meter()
    with meter.interval() as used:
        machine.move(60.0, {f"{BATTERY}/status": "Charging"})
    assert used.per_token(100) is None
    machine.move(1.0, {f"{BATTERY}/status": "Discharging"})
    with meter.interval() as used:
        machine.move(60.0, {})
    assert used.per_token(100) is None, "what was missed is not made up"


def test_battery_on_the_mains_is_explained(tmp_path):
    tree = only(intel_laptop(), "sys/class/power_supply") | {f"{BATTERY}/status": "Full"}
    assert "unplug" in Machine(tmp_path, tree).meter().reason


def test_all_sources_of_a_laptop_stand_side_by_side(tmp_path):
    sources, problems = find_sources(write_tree(tmp_path, intel_laptop()))
    assert [source.name for source in sources] == ["RAPL", "battery"] and problems == []


@pytest.mark.parametrize("tree", [cloud_vm(), raspberry_pi_5(), {}], ids=["vm", "pi", "empty"])
def test_machines_without_a_source(tmp_path, tree):
    meter = Machine(tmp_path, tree).meter()
    assert meter.reason == "not available here"
    meter.measure_idle(9.0, sleep=lambda seconds: pytest.fail("there is nothing to wait for"))
    with meter.interval() as used:
        pass
    assert used.per_token(5) is None


def test_gauges_by_hand():
    counter = Counter(iter([90.0, 95.0, 3.0, 4.0]).__next__, range_joules=100.0)
    for _ in range(4):
        counter.sample(0.0)
    assert counter.joules == pytest.approx(5 + 8 + 1)
    sensor = PowerSensor(iter([10.0, 20.0, 20.0]).__next__)
    for now in (0.0, 1.0, 3.0):
        sensor.sample(now)
    assert sensor.joules == pytest.approx(15 + 40)


class Driver:
    """NVIDIA's library as two GPUs would answer; `counts` False is a GPU from before Volta."""

    def __init__(self, counts=True):
        self.counts, self.millijoules, self.milliwatts = counts, 5_000, 60_000

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802 - its names are not ours
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        handle._obj.value = 1000 + index.value
        return 0

    def nvmlDeviceGetName(self, handle, text, length):  # noqa: N802
        ctypes.memmove(text, b"NVIDIA H100", 12)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, value):  # noqa: N802
        value._obj.value = self.millijoules
        return 0 if self.counts else 3

    def nvmlDeviceGetPowerUsage(self, handle, value):  # noqa: N802
        value._obj.value = self.milliwatts
        return 0


def test_nvidia_counts_joules_of_all_gpus():
    driver = Driver()
    source = nvidia_source(Nvml(driver))
    (gauge,) = source.gauges
    gauge.sample(0.0)
    driver.millijoules = 9_000
    gauge.sample(1.0)
    assert source.joules == pytest.approx(2 * 4.0)
    assert Nvml(driver).names() == ["NVIDIA H100", "NVIDIA H100"]


def test_nvidia_without_a_counter_gives_watts():
    (gauge,) = nvidia_source(Nvml(Driver(counts=False))).gauges
    gauge.sample(0.0)
    gauge.sample(2.0)
    assert gauge.joules == pytest.approx(2 * 60.0 * 2)


def test_samples_are_taken_in_a_thread_that_ends(tmp_path):
    root, sampled = write_tree(tmp_path, rk3588_board()), threading.Event()

    def clock():
        if threading.current_thread() is not threading.main_thread():
            sampled.set()
        return 0.0

    with Meter(root, sample_seconds=0.001, clock=clock) as meter:
        assert sampled.wait(10)
    assert not meter._thread.is_alive()
