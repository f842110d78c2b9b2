"""Placements of made-up CPUs, halving with a fake meter and clock, and settings that a load then uses."""

import json
import os
import random
import threading

import pytest
from test_topology import topology_files, write_tree

from bench import tune
from bench.halving import Halving
from bench.placements import placements
from edgellama import device, system
from edgellama.device import DeviceSettings
from edgellama.placement import Placement
from edgellama.topology import cpu_list, parse_cpu_list, read_topology


def found(tmp_path, cpus, caches=None, usable=None, limit=64, can_place=True):
    topology = read_topology(write_tree(tmp_path / "cpus", cpus, caches))
    return placements(topology, cpus if usable is None else usable, limit, can_place)


def test_smt_gives_one_sibling_of_each_core_and_all(tmp_path):
    cpus = {i: topology_files(i % 4, f"{i % 4},{i % 4 + 4}") for i in range(8)}
    assert found(tmp_path, cpus) == [Placement(2), Placement(4), Placement(4, (0, 1, 2, 3)), Placement(8)]


def test_big_and_little_cores_give_a_set_for_each_kind(tmp_path):
    capacities = [250, 250, 250, 250, 760, 760, 1024]
    cpus = {i: topology_files(i % 4, str(i), capacity=c) for i, c in enumerate(capacities)}
    expected = [Placement(1, (6,)), Placement(2), Placement(3), Placement(3, (4, 5, 6)), Placement(7)]
    assert found(tmp_path, cpus) == expected


def test_intel_hybrid_with_smt_on_big_cores_only(tmp_path):
    big = {i: topology_files(i // 2, f"{i // 2 * 2}-{i // 2 * 2 + 1}", capacity=1024) for i in range(4)}
    little = {i: topology_files(i, str(i), capacity=600) for i in range(4, 8)}
    expected = {
        Placement(2, (0, 2)), Placement(4, (0, 1, 2, 3)), Placement(6, (0, 2, 4, 5, 6, 7)),
        Placement(3), Placement(6), Placement(8),
    }  # fmt: skip
    assert set(found(tmp_path, big | little)) == expected


def test_cores_with_caches_of_their_own_give_one_such_part(tmp_path):
    cpus = {i: topology_files(i, str(i)) for i in range(8)}
    cache = {"level": "3", "type": "Unified", "size": "32M"}
    caches = {i: cache | {"shared_cpu_list": "0-3" if i < 4 else "4-7"} for i in range(8)}
    assert Placement(4, (0, 1, 2, 3)) in found(tmp_path, cpus, caches)


def test_quota_affinity_and_systems_that_place_no_threads(tmp_path):
    cpus = {i: topology_files(i, str(i)) for i in range(8)}
    assert found(tmp_path, cpus, limit=3) == [Placement(3)]
    assert found(tmp_path, cpus, usable=[3]) == [Placement(1)]
    assert found(tmp_path, cpus, can_place=False) == [Placement(4), Placement(8)]


class FakeMachine:
    """Rates per choice with noise; a measurement takes fake time."""

    def __init__(self, rates, noise=0.0, seconds=0.25, seed=0):
        self.rates, self.noise, self.seconds, self.now = rates, noise, seconds, 0.0
        self.random, self.n_measured = random.Random(seed), {}

    def measure(self, choice):
        self.now += self.seconds
        self.n_measured[choice] = self.n_measured.get(choice, 0) + 1
        return self.rates[choice] * self.random.uniform(1 - self.noise, 1)

    def halving(self, budget=12.0):
        return Halving(list(self.rates), self.measure, budget, lambda: self.now)


RATES = {Placement(1): 10.0, Placement(2): 19.0, Placement(3): 26.0, Placement(3, (4, 5, 6)): 31.0, Placement(7): 22.0}


@pytest.mark.parametrize("seed", range(20))
def test_the_fastest_wins_under_noise(seed):
    machine = FakeMachine(RATES, noise=0.25, seed=seed)
    assert machine.halving().run() == Placement(3, (4, 5, 6))
    assert machine.now <= 12.0


def test_time_goes_to_those_that_may_win():
    machine = FakeMachine(RATES)
    machine.halving(100.0).run()
    assert machine.n_measured[Placement(3, (4, 5, 6))] >= 2 * machine.n_measured[Placement(1)]


def test_of_two_alike_the_modest_wins():
    alike = {Placement(4): 30.0, Placement(4, (0, 1, 2, 3)): 30.5, Placement(8): 30.6}
    assert FakeMachine(alike).halving().run() == Placement(4)


@pytest.mark.parametrize("seconds", [0.01, 0.3, 5.0, 11.0])
def test_the_budget_holds_for_any_length_of_a_measurement(seconds):
    machine = FakeMachine(RATES, seconds=seconds)
    assert machine.halving().run() in RATES
    assert machine.now <= 12.0


def test_slow_measurements_still_reach_every_choice():
    machine = FakeMachine(RATES, seconds=2.0)  # a third of the budget has room for two of five
    assert machine.halving().run() == Placement(3, (4, 5, 6)) and machine.now <= 12.0


def test_one_choice_needs_no_measuring():
    machine = FakeMachine({Placement(1): 1.0})
    assert machine.halving().run() == Placement(1) and machine.now == 0.0


@pytest.fixture
def settings_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGELLAMA_CACHE", str(tmp_path / "settings"))
    return tmp_path / "settings"


def test_placements_survive_the_file(settings_folder):
    settings = DeviceSettings(2, Placement(8), Placement(4, (4, 5, 6, 7)))
    assert device.save_settings(settings, "a") and device.load_settings("a") == settings


@pytest.mark.parametrize(
    "damaged", [4, [4], [0, []], [True, []], [4, [-1]], [4, ["0"]], [4, 0], [4, [], 1], {"threads": 4}]
)
def test_damaged_placements_are_ignored(damaged):
    entry = {"decode_threads": 3, "prefill": damaged, "decode": [2, [1, 0]]}
    assert DeviceSettings.from_json(entry) == DeviceSettings(3, None, Placement(2, (0, 1)))


def test_a_core_set_that_is_not_ours_is_dropped():
    assert Placement(2, (4, 5)).within([0, 1, 4]) == Placement(2)
    assert Placement(2, (0, 4)).within([0, 1, 4]) == Placement(2, (0, 4))


@pytest.mark.skipif(not system.can_place_threads(), reason="this system binds no threads to CPUs")
def test_the_calling_thread_is_back_after_the_block():
    before = os.sched_getaffinity(0)
    with system.calling_thread_on([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
    with system.calling_thread_on([100_000]):
        assert os.sched_getaffinity(0) == before


def loaded(path, **options):
    import edgellama

    return edgellama.load(path, context=64, **options)


@pytest.fixture
def stored(monkeypatch):
    """Settings of this device as a load reads them, without a file: the kernels' cache stays in use."""
    kept = [DeviceSettings()]
    monkeypatch.setattr(device, "load_settings", lambda key=None: kept[0])
    monkeypatch.setattr(device, "save_settings", lambda settings, key=None: kept.__setitem__(0, settings) or True)
    return kept


def test_a_load_uses_tuned_settings_and_an_explicit_number_wins(synthetic_model, stored):
    cpu = system.usable_cpus()[0]
    cpus = (cpu,) if system.can_place_threads() else ()
    stored[0] = DeviceSettings(1, prefill=Placement(3), decode=Placement(2, cpus))
    with loaded(synthetic_model("q4_0")) as model:
        machine = model.machine
        assert (machine.prefill, machine.worker_count.current, machine.workers.count) == (Placement(3), 2, 3)
        assert machine.trial is None and machine.decode_cpus == cpus
    with loaded(synthetic_model("q4_0"), threads=1) as model:
        assert (model.machine.prefill, model.machine.worker_count.current) == (Placement(1), 1)
        assert model.machine.decode_cpus == () and model.machine.workers.count == 1


@pytest.mark.skipif(not system.can_place_threads(), reason="this system binds no threads to CPUs")
def test_workers_move_between_the_core_sets_and_results_do_not_change(synthetic_model, stored):
    import numpy as np

    usable = system.usable_cpus()
    stored[0] = DeviceSettings(prefill=Placement(2), decode=Placement(2, (usable[0],)))
    with loaded(synthetic_model("q4_0")) as model, model.new_session() as session:
        native_id = model.machine.workers.threads[0].native_id
        session.prefill([1, 2, 3])
        assert os.sched_getaffinity(native_id) == set(usable)
        placed = np.array(session.decode(4))
        assert os.sched_getaffinity(native_id) == {usable[0]}
        assert os.sched_getaffinity(threading.get_native_id()) == set(usable)
        session.reset()
        session.prefill([1, 2, 3])
        assert os.sched_getaffinity(native_id) == set(usable)
    with loaded(synthetic_model("q4_0"), threads=1) as model, model.new_session() as session:
        session.prefill([1, 2, 3])
        assert np.array_equal(session.decode(4), placed)


def test_tune_measures_stores_and_forgets(synthetic_model, stored):
    tuned = tune.tune(synthetic_model("q4_0"), budget_seconds=1.0)
    choices = placements(read_topology(), system.usable_cpus())
    assert tuned.is_saved and tuned.is_small_model and {tuned.prefill, tuned.decode} <= set(choices)
    assert stored[0] == DeviceSettings(None, tuned.prefill, tuned.decode)
    text = tune.as_markdown(tuned)
    assert tuned.decode.describe() in text and "tune with the one you use" in text
    assert json.loads(json.dumps(tune.as_json(tuned)))["decode"]["threads"] == tuned.decode.threads
    tune.forget()
    assert stored[0] == DeviceSettings()


@pytest.mark.parametrize(("cpus", "text"), [((4,), "4"), ((0, 1, 2, 3), "0-3"), ((0, 2, 3, 9), "0,2-3,9"), ((), "")])
def test_cpu_lists_read_as_the_kernel_writes_them(cpus, text):
    assert cpu_list(cpus) == text and parse_cpu_list(text) == cpus


END_TO_END = """
import sys, edgellama
from edgellama import device
with edgellama.load(sys.argv[1], context=64) as model:
    machine = model.machine
    print(tuple(machine.prefill), machine.worker_count.current, machine.trial is None, device.load_settings().prefill)
"""


@pytest.mark.slow
def test_end_to_end_in_processes_of_their_own(synthetic_model, settings_folder, run_python):
    """Slow: kernels are compiled once for this cache folder."""
    path = str(synthetic_model("q4_0"))
    answer = run_python("-m", "edgellama", "bench", path, "--tune", "-o", "json", timeout=300)
    assert answer.returncode == 0, answer.stderr
    tuned = json.loads(answer.stdout)
    prefill, decode = tuned["prefill"], tuned["decode"]
    used = run_python("-c", END_TO_END, path).stdout
    expected = Placement(prefill["threads"], tuple(prefill["cpus"]))
    assert used.split("\n")[0] == f"{tuple(expected)} {decode['threads']} True {expected}"
    assert run_python("-m", "edgellama", "bench", "--tune", "--forget").returncode == 0
    assert "None" in run_python("-c", END_TO_END, path).stdout
