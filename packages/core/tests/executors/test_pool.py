import queue
import threading

import pytest

from exoflow.executors.pool import Pool


@pytest.fixture
def make():
    pools = []

    def make(run, limit):
        pools.append(Pool(run, limit=limit, name="test-pool"))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
        pool.join(60)
        assert not any(thread.is_alive() for thread in pool._threads)


def test_every_item_runs_once_whatever_the_race(make):
    done = queue.SimpleQueue()
    pool = make(done.put, 4)
    for number in range(20_000):
        pool.put(number, 1 + number % 6)
    assert sorted(done.get(timeout=60) for _ in range(20_000)) == list(range(20_000))
    assert len(pool._threads) == 4


def test_items_handed_over_one_by_one_run_on_the_same_thread(make):
    done = queue.SimpleQueue()
    barrier = threading.Barrier(3)
    pool = make(lambda work: done.put((work(), threading.get_ident())[1]), 3)
    for wanted in (1, 2, 3):
        pool.put(barrier.wait, wanted)
    everyone = {done.get(timeout=60) for _ in range(3)}
    assert len(everyone) == 3
    seen = []
    for _ in range(100):
        pool.put(lambda: None, 1)
        seen.append(done.get(timeout=60))
    assert set(seen) <= everyone
    assert len(seen) == 100


def test_a_blocked_thread_keeps_no_item_from_another(make):
    go, done = threading.Event(), queue.SimpleQueue()
    pool = make(lambda work: done.put(work()), 3)
    pool.put(lambda: go.wait(60), 1)
    pool.put(lambda: go.wait(60), 2)
    pool.put(lambda: "free", 3)
    assert done.get(timeout=60) == "free"
    pool.put(lambda: "again", 3)
    assert done.get(timeout=60) == "again"
    go.set()


def test_an_error_is_logged_and_the_thread_goes_on(make, caplog):
    done = queue.SimpleQueue()
    pool = make(lambda work: done.put(work()), 1)
    pool.put(lambda: 1 / 0, 1)
    pool.put(lambda: "on", 1)
    assert done.get(timeout=60) == "on"
    assert "ZeroDivisionError" in caplog.text


def test_what_waits_when_it_is_closed_is_dropped(make):
    begun, go, done = threading.Event(), threading.Event(), []
    pool = make(lambda work: work(), 1)
    pool.put(lambda: (begun.set(), go.wait(60)), 1)
    pool.put(lambda: done.append("dropped"), 2)
    assert begun.wait(60)
    pool.close()
    go.set()
    pool.join(60)
    assert done == []


def test_a_thread_that_is_lent_out_gets_one_item_itself_and_the_others_go_elsewhere(make):
    done = queue.SimpleQueue()

    def run(work):
        if work != "lend":
            done.put((work, threading.get_ident()))
            return
        mine = threading.get_ident()
        pool.lend(lambda: (pool.put("mine", 2), pool.put("another's", 2), done.put(("lent", mine))))

    pool = make(run, 2)
    pool.put("lend", 1)
    found = dict(done.get(timeout=60) for _ in range(3))
    assert found["mine"] == found["lent"]
    assert found["another's"] != found["lent"]
    pool.put("later", 1)
    assert done.get(timeout=60)[0] == "later"
