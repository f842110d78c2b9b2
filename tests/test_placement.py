"""Where threads go on recorded trees of big and little cores, and why: a simulation of how they share an op's units."""

import itertools
import math
import os
import random
import statistics

import pytest
from device_trees import TREES, apple_m1, intel_laptop, raspberry_pi_5, rk3588_board, snapdragon_phone, write_tree

from edgellama import placement, system
from edgellama.cpu.threads import ThreadTrial
from edgellama.doctor import processor
from edgellama.placement import Placement, Places, section_seconds
from edgellama.topology import read_topology


@pytest.fixture
def places(tmp_path):
    def places_of(tree, usable=range(64), limit=64, can_bind=True):
        topology = read_topology(write_tree(tmp_path, tree()) / "sys/devices/system/cpu")
        found = Places.of(topology, usable, limit)
        return Places(found.classes, found.limit, can_bind)

    return places_of


BIG_OF_8, P_CORES = (4, 5, 6, 7), (0, 2, 4, 6)
P_AND_E_CORES = (*P_CORES, *range(8, 16))


@pytest.mark.parametrize(
    ("tree", "prefill", "decode"),
    [
        (raspberry_pi_5, Placement(4), [Placement(2), Placement(4)]),
        (rk3588_board, Placement(4, BIG_OF_8), [Placement(2, BIG_OF_8), Placement(4, BIG_OF_8), Placement(8)]),
        # The prime core and the three beside it count as one class.
        (snapdragon_phone, Placement(4, BIG_OF_8), [Placement(2, BIG_OF_8), Placement(4, BIG_OF_8), Placement(8)]),
        (apple_m1, Placement(4, BIG_OF_8), [Placement(2, BIG_OF_8), Placement(4, BIG_OF_8), Placement(8)]),
        # Eight E-cores beside four P-cores are worth it, on one CPU of each core.
        (
            intel_laptop,
            Placement(12, P_AND_E_CORES),
            [Placement(2, P_CORES), Placement(4, P_CORES), Placement(12, P_AND_E_CORES), Placement(16)],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_each_machine_gets(places, tree, prefill, decode):
    found = places(tree)
    assert found.prefill() == prefill and found.decode_candidates() == decode


@pytest.mark.parametrize(
    ("tree", "usable", "expected"),
    [
        (rk3588_board, range(4), Placement(4)),  # in the background a phone or board gets the little cores alone
        (rk3588_board, (0, 1, 2, 3, 7), Placement(5)),  # beside one big core four little ones are worth it
        (rk3588_board, (4, 5), Placement(2)),
        (intel_laptop, (1, 3, *range(8, 12)), Placement(6)),  # one sibling each of two P-cores
        (intel_laptop, range(4), Placement(2)),  # one class: the system keeps siblings apart itself
        (snapdragon_phone, (0, 1, 7), Placement(1, (7,))),
    ],
)
def test_affinity_is_respected(places, tree, usable, expected):
    assert places(tree, usable).prefill() == expected


@pytest.mark.parametrize(
    ("limit", "prefill", "decode"),
    [
        (1, Placement(1, BIG_OF_8), [Placement(1, BIG_OF_8)]),
        (3, Placement(3, BIG_OF_8), [Placement(2, BIG_OF_8), Placement(3, BIG_OF_8)]),
        (6, Placement(4, BIG_OF_8), [Placement(2, BIG_OF_8), Placement(4, BIG_OF_8), Placement(6)]),
    ],
)
def test_a_quota_leaves_the_big_cores(places, limit, prefill, decode):
    found = places(rk3588_board, limit=limit)
    assert found.prefill() == prefill and found.decode_candidates() == decode


def test_the_control_groups_quota_is_that_limit(tmp_path, monkeypatch):
    tree = rk3588_board() | {"proc/self/cgroup": "0::/app", "sys/fs/cgroup/app/cpu.max": "250000 100000"}
    root = write_tree(tmp_path, tree)
    monkeypatch.setattr(system, "default_worker_limit", lambda: math.floor(system.cpu_quota(root)))
    found = Places.of(read_topology(root / "sys/devices/system/cpu"), range(8))
    assert (found.limit, found.prefill()) == (2, Placement(2, BIG_OF_8))


def test_systems_that_bind_no_threads_get_numbers_only(places):
    found = places(apple_m1, can_bind=False)
    assert found.prefill() == Placement(4)
    assert found.decode_candidates() == [Placement(2), Placement(4), Placement(8)]


@pytest.mark.parametrize(("threads", "cpus"), [(1, BIG_OF_8), (4, BIG_OF_8), (5, ()), (8, ()), (9, ())])
def test_a_given_number_goes_to_the_big_cores_first(places, threads, cpus):
    assert places(rk3588_board).on_fastest(threads) == Placement(threads, cpus)


def section(speeds, n_units, order):
    """Seconds until a split op of n_units is done, when workers of these speeds claim as cpu/kernels/shared.py does."""
    left, n_workers = n_units, len(speeds)
    free_at = {worker: 1e-9 * place for place, worker in enumerate(order)}
    while left:
        worker = min(free_at, key=free_at.get)
        take = max(3 * left // (4 * n_workers), 1)
        left -= take
        free_at[worker] += take / speeds[worker]
    return max(free_at.values()) / n_units


def mean_section(speeds, n_units=352):  # the row groups of a gate and up matrix of 5632 rows each
    shuffled = random.Random(0)
    orders = [shuffled.sample(range(len(speeds)), len(speeds)) for _ in range(200)]
    return statistics.mean(section(speeds, n_units, order) for order in orders)


@pytest.mark.parametrize("name", ["rk3588", "snapdragon-phone", "apple-m1", "intel-laptop", "raspberry-pi-5"])
def test_no_other_set_of_classes_is_much_faster_in_a_simulation(places, name):
    found = places(TREES[name])
    speeds = [core.share**placement.VECTOR_EXPONENT for core in found.cores]
    ends = list(itertools.accumulate(map(len, found.classes)))
    seconds = {end: mean_section(speeds[:end]) for end in ends}
    assert seconds[found.prefill().threads] <= 1.08 * min(seconds.values())


@pytest.mark.parametrize("little", [0.1, 0.25, 0.4, 0.6, 0.9])
def test_the_estimate_is_the_worst_order_of_the_simulation(little):
    speeds = [1.0] * 4 + [little] * 4
    worst = section(speeds, 3520, [4, 5, 6, 7, 0, 1, 2, 3])
    assert section_seconds(speeds) == pytest.approx(worst, rel=0.03)


def test_a_trial_does_not_count_the_step_in_which_workers_move():
    candidates = [Placement(2, (4, 5, 6, 7)), Placement(4, (4, 5, 6, 7)), Placement(8)]
    trial, used = ThreadTrial(candidates), []
    best = None
    while best is None:
        moves = not used or used[-1].cpus != trial.current.cpus
        used.append(trial.current)
        best = trial.report(50.0 if moves else {2: 2.0, 4: 1.0, 8: 1.5}[trial.current.threads])
    assert best == candidates[1]
    assert {choice: len(rates) for choice, rates in trial.rates.items()} == dict.fromkeys(candidates, 3)


@pytest.mark.skipif(not system.can_place_threads(), reason="this system binds no threads to CPUs")
def test_a_system_that_refuses_to_bind_threads_runs_them_anywhere(synthetic_model, monkeypatch, places):
    """An Android app may lack the right: the result is the same, only where it is computed is not."""
    import edgellama

    cpu = system.usable_cpus()[0]
    monkeypatch.setattr(Places, "prefill", lambda self: Placement(2, (cpu,)))
    monkeypatch.setattr(Places, "decode_candidates", lambda self: [Placement(1, (cpu,)), Placement(2, (cpu,))])

    def text():
        with edgellama.load(synthetic_model("q4_0"), context=64) as model:
            return list(model.generate([1, 2, 3], max_tokens=20, temperature=0))

    bound = text()
    calls = []

    def refuse(*arguments):
        calls.append(arguments)
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert text() == bound and calls


def test_doctor_shows_the_classes_of_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "usable_cpus", lambda: list(range(8)))
    monkeypatch.setattr(system, "default_worker_limit", lambda: 8)
    monkeypatch.setattr(system, "cpu_quota", lambda root=None: None)
    found = processor.check_processor(write_tree(tmp_path, rk3588_board()))
    lines = found.text.splitlines()
    assert lines[1:3] == [
        "4 cores Cortex-A76 up to 2.40 GHz, CPUs 4-7, the fastest",
        "4 cores Cortex-A55 up to 1.80 GHz, CPUs 0-3, at 40% of the fastest core's speed",
    ]
    assert "4 threads on CPUs 4-7" in lines[3] and found.state == "well"
    assert [entry["cpus"] for entry in found.facts["core_classes"]] == [[4, 5, 6, 7], [0, 1, 2, 3]]


def test_doctor_keeps_a_uniform_machine_short(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "usable_cpus", lambda: list(range(4)))
    monkeypatch.setattr(system, "cpu_quota", lambda root=None: None)
    assert len(processor.check_processor(write_tree(tmp_path, raspberry_pi_5())).text.splitlines()) == 1
