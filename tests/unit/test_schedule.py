import threading

from controller.schedule import Clockwork


def test_the_first_tick_is_at_once_and_an_overrun_is_told_not_lost_in_silence():
    started, go_on, missed = threading.Event(), threading.Event(), threading.Event()

    def slow_tick():
        started.set()
        assert go_on.wait(10)

    clockwork = Clockwork(slow_tick, 0.1, lambda _reason: missed.set())
    clockwork.start()
    try:
        assert started.wait(10)
        assert missed.wait(10)
    finally:
        go_on.set()
        clockwork.stop()


def test_a_tick_that_raises_is_told_and_the_next_one_comes():
    reasons, twice = [], threading.Event()

    def broken():
        if len(reasons) >= 2:
            twice.set()
        raise RuntimeError("boom")

    clockwork = Clockwork(broken, 0.05, reasons.append)
    clockwork.start()
    try:
        assert twice.wait(10)
    finally:
        clockwork.stop()
    assert "boom" in reasons[0]


def test_stop_waits_for_the_running_tick():
    started, ended = threading.Event(), threading.Event()

    def tick():
        started.set()
        threading.Event().wait(0.2)
        ended.set()

    clockwork = Clockwork(tick, 60.0, print)
    clockwork.start()
    assert started.wait(10)
    clockwork.stop()
    assert ended.is_set()


def test_a_tick_that_hangs_costs_the_job_beside_it_nothing():
    started, go_on, turns = threading.Event(), threading.Event(), []
    thrice = threading.Event()

    def slow_tick():
        started.set()
        assert go_on.wait(10)

    def turn():
        turns.append(started.is_set())
        if len(turns) >= 3:
            thrice.set()
            raise RuntimeError("boom")

    reasons, told = [], threading.Event()

    def missed(reason):
        reasons.append(reason)
        told.set()

    clockwork = Clockwork(slow_tick, 60.0, reasons.append)
    clockwork.beside(turn, 0.05, missed)
    clockwork.wake(on=True)
    clockwork.start()
    try:
        assert thrice.wait(10)
        assert told.wait(10)
    finally:
        go_on.set()
        clockwork.stop()
    assert "a turn raised" in reasons[0]


def test_the_job_beside_sleeps_until_it_is_woken_and_can_be_put_to_sleep():
    turned = threading.Event()
    clockwork = Clockwork(lambda: None, 60.0, print)
    clockwork.beside(turned.set, 0.05, print)
    clockwork.start()
    try:
        assert not turned.wait(0.3)
        clockwork.wake(on=True)
        assert turned.wait(10)
        clockwork.wake(on=False)
        clockwork.wake(on=False)
    finally:
        clockwork.stop()
