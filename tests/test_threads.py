"""How many workers a decode step takes, on simulated machines; and workers that outlive a fork."""

import pytest

from edgellama.cpu.threads import ThreadTrial, WorkerCount
from edgellama.placement import Placement


def run(count: WorkerCount, seconds_with, n_steps: int) -> list[int]:
    """The counts that n_steps steps used, when a step with n workers takes seconds_with(n)."""
    used = []
    for _ in range(n_steps):
        used.append(count.current)
        count.report(seconds_with(count.current))
    return used


def test_an_undisturbed_machine_always_uses_all_workers():
    count = WorkerCount(4)
    assert set(run(count, lambda n: 1.0 / n, 500)) == {4}


def test_noise_alone_changes_nothing():
    count = WorkerCount(2)
    noise = iter([1.0, 1.2, 0.9, 1.1, 1.25, 1.0] * 100)
    assert set(run(count, lambda n: next(noise), 500)) == {2}


def test_a_growing_context_is_no_disturbance():
    count = WorkerCount(2)
    steps = iter(1.0 + i / 2000 for i in range(4000))
    assert set(run(count, lambda n: next(steps), 4000)) == {2}


def test_a_busy_core_leaves_one_worker_and_its_end_brings_the_second_back():
    count = WorkerCount(2)
    run(count, lambda n: {2: 1.0, 1: 1.7}[n], 50)
    disturbed = run(count, lambda n: {2: 4.0, 1: 1.7}[n], 400)
    assert disturbed[:8] != [1] * 8 and disturbed[100:].count(1) > 0.9 * 300
    assert run(count, lambda n: {2: 1.0, 1: 1.7}[n], 600)[-50:] == [2] * 50


@pytest.mark.parametrize("slow_with_fewer", [4.0, 8.0])
def test_fewer_workers_that_do_not_help_are_given_up(slow_with_fewer):
    count = WorkerCount(2)
    run(count, lambda n: 1.0, 50)
    used = run(count, lambda n: {2: 4.0, 1: slow_with_fewer}[n], 400)
    assert used.count(1) < 0.15 * 400


def test_one_of_eight_busy_cores_costs_one_worker():
    count = WorkerCount(8)
    run(count, lambda n: 1.0 / n, 50)
    used = run(count, lambda n: 1.0 if n == 8 else 1.0 / n, 400)
    assert used[200:].count(7) > 0.8 * 200


def test_a_trial_takes_all_candidates_in_turn_and_forgets_the_first_step():
    trial, used, best = ThreadTrial([Placement(count) for count in (1, 2, 4)]), [], None
    while best is None:
        used.append(trial.current.threads)
        best = trial.report(9.0 if len(used) == 1 else {1: 2.0, 2: 1.0, 4: 1.5}[trial.current.threads])
    assert used == [4, *([1, 2, 4] * 3)] and best == Placement(2)


def test_a_start_with_fewer_workers_grows_when_more_help():
    count = WorkerCount(4, 2)
    assert run(count, lambda n: 1.0 / n, 200)[-1] == 4
