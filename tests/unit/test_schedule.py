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
