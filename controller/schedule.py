"""The clockwork: APScheduler, with the defaults that lose ticks turned off.

By default it drops a tick that starts more than a second late, waits a whole interval before the first one, and says
nothing of a tick that was skipped because the last one still ran; a control loop can afford none of that.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

JOB, INNER = "tick", "inner"


class Clockwork:
    """Calls `tick` every `interval_seconds`, never twice at a time, the first time at once.

    Args:
        on_missed: told, with a reason, of each tick that did not start or raised.
    """

    def __init__(self, tick: Callable[[], None], interval_seconds: float, on_missed: Callable[[str], None]) -> None:
        self._on_missed = on_missed
        self._on_inner_missed = on_missed
        self._interval_seconds = interval_seconds
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            # A thread each: a tick that hangs never costs the inner loop a turn.
            executors={"default": ThreadPoolExecutor(1), INNER: ThreadPoolExecutor(1)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(self._missed, EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED)
        self._scheduler.add_job(
            tick, IntervalTrigger(seconds=interval_seconds, timezone=UTC), id=JOB, next_run_time=datetime.now(UTC)
        )

    def beside(self, turn: Callable[[], None], every_seconds: float, on_missed: Callable[[str], None]) -> None:
        """Another job beside the tick, in a thread of its own, asleep until `wake`. Before `start`."""
        self._on_inner_missed = on_missed
        trigger = IntervalTrigger(seconds=every_seconds, timezone=UTC)
        self._scheduler.add_job(turn, trigger, id=INNER, executor=INNER, next_run_time=None)

    def wake(self, *, on: bool) -> None:
        """Whether the job beside the tick runs."""
        job = self._scheduler.get_job(INNER)
        if job is not None and on != (job.next_run_time is not None):
            job.resume() if on else job.pause()

    def start(self) -> None:
        """Begin; the first tick runs now, in another thread."""
        self._scheduler.start()

    def set_interval(self, seconds: float) -> None:
        """Change the interval from the next tick on."""
        if seconds != self._interval_seconds:
            self._interval_seconds = seconds
            self._scheduler.reschedule_job(JOB, trigger=IntervalTrigger(seconds=seconds, timezone=UTC))

    def stop(self) -> None:
        """Start no more ticks, and wait for the running one, which has a deadline of its own."""
        self._scheduler.shutdown(wait=True)

    def _missed(self, event: Any) -> None:
        what, tell = ("a turn", self._on_inner_missed) if event.job_id == INNER else ("a tick", self._on_missed)
        if isinstance(event, JobExecutionEvent) and event.exception is not None:
            tell(f"{what} raised {event.exception!r}")
        else:
            tell(f"{what} did not start: the one before it was still running")
