"""The lock under which steps run: reentrant, and served in the order of asking."""

import threading
import time

from edgellama.fair_lock import FairLock


def test_one_thread_may_take_it_again():
    lock = FairLock()
    with lock, lock:
        pass
    assert taken_by_another_thread(lock)


def taken_by_another_thread(lock: FairLock) -> bool:
    done = threading.Event()

    def take() -> None:
        with lock:
            done.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return done.wait(5)


def test_waiters_are_served_in_order():
    lock, order = FairLock(), []

    def take(name: int) -> None:
        with lock:
            order.append(name)

    with lock:
        threads = []
        for name in range(8):
            threads.append(threading.Thread(target=take, args=(name,)))
            threads[-1].start()
            while len(lock._waiting) <= name:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_a_thread_in_a_loop_does_not_keep_others_out():
    lock, turns, stop = FairLock(), [0, 0], threading.Event()

    def loop(index: int) -> None:
        while not stop.is_set():
            with lock:
                turns[index] += 1
                time.sleep(0.0005)

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert abs(turns[0] - turns[1]) <= 0.2 * max(turns) + 2, turns


def test_exclusion_under_load():
    lock, total = FairLock(), [0]

    def add() -> None:
        for _ in range(2000):
            with lock:
                value = total[0]
                total[0] = value + 1

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total[0] == 16000
