"""The sustained run with a device that gets warm as its clock tells it to."""

import signal

import pytest
from device_trees import raspberry_pi_5, write_tree

from bench.device_state import read_state
from bench.sustain import POINT_SECONDS, sentence, summarize, sustain

FIRMWARE = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
POLICY = "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"


class WarmingPi:
    """10 tokens take 0.5 s; after a minute, when it throttles, 1 s. Ctrl-C comes at `stop_seconds`."""

    def __init__(self, root, stop_seconds=float("inf"), n_presses=1):
        self.root, self.now = write_tree(root, raspberry_pi_5()), 1000.0
        self.stop_seconds, self.n_presses = stop_seconds, n_presses
        self.write(FIRMWARE, "0")
        self.write(POLICY, "2400000")

    def write(self, name, text):
        (self.root / name).write_text(text + "\n")

    def clock(self):
        return self.now

    def decode(self):
        hot = self.now - 1000 >= 60
        self.now += 1.0 if hot else 0.5
        if hot:
            self.write(FIRMWARE, "4")
            self.write(POLICY, "1500000")
        for _ in range(self.n_presses if self.now - 1000 > self.stop_seconds else 0):
            signal.raise_signal(signal.SIGINT)
        return 10

    def state(self):
        return read_state(self.root)

    def run(self, minutes, report=None):
        return sustain(self.decode, minutes, report, self.state, self.clock)


def test_throttling_is_seen_in_speed_and_clock(tmp_path):
    points = WarmingPi(tmp_path).run(2)
    assert points[0] == {
        "seconds": 2.0,
        "tokens_per_second": pytest.approx(20.0),
        "temperature_celsius": 84.75,
        "frequency_hz": 2.4e9,
        "throttling": (),
    }
    assert points[-1]["tokens_per_second"] == pytest.approx(10.0) and points[-1]["frequency_hz"] == 1.5e9
    assert points[-1]["throttling"] == ("the firmware throttles the CPU",)
    assert points[-1]["seconds"] == pytest.approx(120, abs=POINT_SECONDS)
    assert summarize(points) == {
        "minutes": pytest.approx(2.0, abs=0.05),
        "first_ts": pytest.approx(20.0),
        "last_ts": pytest.approx(10.0),
        "kept": pytest.approx(0.5),
        "highest_celsius": 84.75,
        "throttling": ["the firmware throttles the CPU"],
    }
    assert sentence(points) == (
        "After 2.0 minutes 10.0 tokens/s, 50% of the 20.0 at the beginning; at most 85 °C; "
        "the firmware throttles the CPU."
    )


def test_ctrl_c_ends_the_run_and_keeps_its_points(tmp_path):
    points = WarmingPi(tmp_path, stop_seconds=7.2).run(60)
    assert [point["seconds"] for point in points] == [2.0, 4.0, 6.0, 7.5]
    assert points[-1]["tokens_per_second"] == pytest.approx(20.0), "tokens that were decoded count"


def test_ctrl_c_again_interrupts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        WarmingPi(tmp_path, stop_seconds=7.2, n_presses=2).run(60)


def test_run_of_no_time():
    assert sustain(lambda: pytest.fail("there is no time"), 0) == []
    assert sentence([]).startswith("The sustained run was stopped")


def test_progress_is_told(tmp_path):
    told = []
    WarmingPi(tmp_path).run(0.1, report=lambda *where: told.append(where))
    assert told == [("sustained decoding", done, 6) for done in (0, 2, 4)]


def test_device_without_sensors(tmp_path):
    pi = WarmingPi(tmp_path)
    pi.state = lambda: read_state(tmp_path / "nothing")
    points = pi.run(0.1)
    assert points[0]["temperature_celsius"] is None and points[0]["frequency_hz"] is None
    assert "°C" not in sentence(points)
