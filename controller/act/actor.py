"""Carries out the plans of one tick. Every effect fails alone; a system that is down is asked once, not once per policy.

Redis and Kubernetes are written side by side, one lane each, so that one that hangs does not use up the other's time; and
in a third, after what goes to Redis, the queues of others.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import redis as redis_py

from controller.act.drain import PodMarker
from controller.act.events import CONFLICT, HELD, RESCALED, Recorder, Subject
from controller.act.hpa import HpaWriter, Written, hpa_path
from controller.act.output import OUTPUT, OutputWriter, system_of
from controller.act.publish import Publisher
from controller.clients.kube import SYSTEM as KUBERNETES
from controller.clients.kube import KubeApi
from controller.clients.redis import SYSTEM as REDIS
from controller.deadline import Deadline
from controller.decide.coordinate import left_at
from controller.errors import DependencyError, LostLease, Throttled, TimedOut, Unreachable
from controller.model.fence import Fence
from controller.model.outcome import Outcome, Result
from controller.model.plan import Hold, HpaRelease, HpaWrite, Plan
from controller.policy.schema import LoadPolicy, Mode
from controller.settings import Settings

PUBLISH, HPA, DRAIN, EVENT = "publish", "hpa", "drain", "event"
GRACE_SECONDS = 1.0  # for the last call of a lane to be cut and its outcome to be written down
GRACE_SHARE = 0.1  # of the time left, if that is less: a short interval has no second to spare
LEAST_GRACE_SECONDS = 0.1  # for lanes that find no time left to say so
_DOWN = (Unreachable, TimedOut, Throttled)
_OF_THE_HPA = ("hpa", "minReplicas", "maxReplicas", "cpu target", "memory target", "everything")
"""Holds that an Event on the HPA tells of: those of routing and the limit are no business of its readers."""

Task = tuple[LoadPolicy, Plan]


@dataclass
class _Lane:
    """One system's effects of one tick. Once it is down, or the lead is lost, the rest is answered without asking."""

    system: str
    fence: Fence
    deadline: Deadline
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    stopped: tuple[Result, str] | None = None

    def run(self, policy: str, actuator: str, effect: Callable[[], Iterable[Outcome]]) -> None:
        """One effect; whatever it raises becomes its outcome."""
        self.outcomes[policy, actuator] = list(self._outcomes(policy, actuator, effect))

    def _outcomes(self, policy: str, actuator: str, effect: Callable[[], Iterable[Outcome]]) -> Iterable[Outcome]:
        if self.stopped is None and not self.fence.valid():
            self.stopped = (Result.REFUSED, "this replica no longer leads")
        if self.stopped is None and self.deadline.expired():
            self.stopped = (Result.FAILED, "no time left in this tick")
        if self.stopped is not None:
            return [self._outcome(policy, actuator, *self.stopped)]
        try:
            return effect()
        except LostLease as error:
            self.stopped = (Result.REFUSED, str(error))
            return [self._outcome(policy, actuator, *self.stopped)]
        except DependencyError as error:
            if isinstance(error, _DOWN):
                self.stopped = (Result.FAILED, error.message)
            return [self._outcome(policy, actuator, Result.FAILED, error.message)]
        except Exception as error:  # noqa: BLE001 - a bug in one policy's effect must not stop the others
            return [Outcome(policy, actuator, Result.FAILED, _bug(error))]

    def _outcome(self, policy: str, actuator: str, result: Result, detail: str) -> Outcome:
        return Outcome(policy, actuator, result, detail, self.system if result is Result.FAILED else "")


class Actor:
    """Writes to Redis and Kubernetes. Logs nothing: outcomes say what happened."""

    def __init__(
        self, settings: Settings, *, kube: KubeApi | None, redis: redis_py.Redis, installation: str = ""
    ) -> None:
        self._publisher = Publisher(redis)
        self._outputs = OutputWriter(settings, redis)
        self._hpas = HpaWriter(kube, installation=installation) if kube else None
        self._pods = PodMarker(kube) if kube else None
        self._events = Recorder(kube, settings.identity) if kube else None
        self._told: dict[str, tuple[int, int | None]] = {}
        """Policy -> the limit that a queue of others was last told, and the default limit, where one is known."""
        self._pool = ThreadPoolExecutor(max_workers=3, thread_name_prefix="trimtab-act")
        self._busy: dict[str, Future[None]] = {}

    def act(self, planned: Sequence[Task], fence: Fence, deadline: Deadline) -> tuple[Outcome, ...]:
        """Carry out what is planned.

        Args:
            planned: each policy with its plan; those whose mode is `observe` are refused.
            fence: the right to act, asked anew before each write.
            deadline: when this must be over.

        Returns:
            One outcome or more per effect, in the order of `planned`: publish, output, hpa, drain, event.
        """
        work: dict[str, Callable[[_Lane], None]] = {
            REDIS: lambda lane: self._publish_all(planned, lane),
            KUBERNETES: lambda lane: self._scale_all(planned, lane),
        }
        lanes = [_Lane(system, fence, deadline) for system in work]
        if any(_asks(OUTPUT, policy, plan) for policy, plan in planned):
            work[OUTPUT] = lambda lane: self._output_all(planned, lane, lanes[0])
            lanes.append(_Lane(OUTPUT, fence, deadline))
        grace = max(LEAST_GRACE_SECONDS, min(GRACE_SECONDS, GRACE_SHARE * deadline.remaining_seconds()))
        for lane in lanes:
            busy = self._busy.get(lane.system)
            if busy is None or busy.done():
                self._busy[lane.system] = self._pool.submit(work[lane.system], lane)
        wait([self._busy[lane.system] for lane in lanes], timeout=deadline.remaining_seconds() + grace)
        # A lane that is still busy may add to its outcomes later: what it has by now is what counts.
        done = {key: found for lane in lanes for key, found in tuple(lane.outcomes.items())}
        return tuple(outcome for task in planned for outcome in _of(task, done))

    def restore(self, plans: Sequence[Plan], fence: Fence, deadline: Deadline) -> tuple[Outcome, ...]:
        """Carry out what is planned for HPAs whose policy is gone; one outcome or more per plan that does anything."""
        lane = _Lane(KUBERNETES, fence, deadline)
        for plan in plans:
            if plan.hpa is not None or plan.release is not None:
                lane.run(plan.policy, HPA, partial(self._give_back, plan, lane))
        return tuple(outcome for found in lane.outcomes.values() for outcome in found)

    def part(self, policies: Sequence[LoadPolicy], fence: Fence, deadline: Deadline) -> tuple[Outcome, ...]:
        """Before a clean stop: a queue that lets no limit expire is left at the default, if what it was told is lower.

        Only those that this process has told a limit. One outcome per queue that was told now, or could not be.
        """
        lanes = []
        for policy in policies:
            limit = left_at(*self._told[policy.key]) if policy.key in self._told else None
            if limit is not None and policy.spec.mode is Mode.ENFORCE:
                lane = _Lane(system_of(policy), fence, deadline)
                lane.run(policy.key, OUTPUT, partial(self._tell_queue, policy, limit, lane))
                lanes.append(lane)
        return tuple(outcome for lane in lanes for found in lane.outcomes.values() for outcome in found)

    def close(self) -> None:
        """Let go of the threads; one that hangs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._outputs.close()

    def _publish_all(self, planned: Sequence[Task], lane: _Lane) -> None:
        for policy, plan in planned:
            if _asks(PUBLISH, policy, plan):
                lane.run(policy.key, PUBLISH, partial(self._publish, policy.key, plan, lane.fence))

    def _publish(self, policy: str, plan: Plan, fence: Fence) -> list[Outcome]:
        publish = plan.publish
        if publish is None:
            return []
        seq = self._publisher.publish(policy, publish, at=plan.at, fence=fence)
        return [Outcome(policy, PUBLISH, Result.DONE, f"seq {seq}")]

    def _output_all(self, planned: Sequence[Task], lane: _Lane, publishing: _Lane) -> None:
        """After the publishes, so that a leader whose epoch Redis refuses writes no queue either."""
        wait([self._busy[REDIS]], timeout=lane.deadline.remaining_seconds())
        refused = publishing.stopped if publishing.stopped and publishing.stopped[0] is Result.REFUSED else None
        for policy, plan in planned:
            if _asks(OUTPUT, policy, plan):  # each in a lane of its own: one queue's outage is no other's
                alone = _Lane(system_of(policy), lane.fence, lane.deadline, lane.outcomes, refused)
                alone.run(policy.key, OUTPUT, partial(self._output, policy, plan, alone))

    def _output(self, policy: LoadPolicy, plan: Plan, lane: _Lane) -> list[Outcome]:
        publish = plan.publish
        if publish is None or publish.limit is None:
            return []
        _, known = self._told.get(policy.key, (0, None))
        self._told[policy.key] = publish.limit, known if publish.default_limit is None else publish.default_limit
        return self._tell_queue(policy, publish.limit, lane)

    def _tell_queue(self, policy: LoadPolicy, limit: int, lane: _Lane) -> list[Outcome]:
        return self._outputs.write(policy, limit, valid=lane.fence.valid, expired=lane.deadline.expired)

    def _scale_all(self, planned: Sequence[Task], lane: _Lane) -> None:
        for policy, plan in planned:
            if _asks(HPA, policy, plan):
                lane.run(policy.key, HPA, partial(self._scale, policy, plan, lane))
        for policy, plan in planned:
            if _asks(DRAIN, policy, plan):
                lane.run(policy.key, DRAIN, partial(self._drain, policy, plan, lane))
        for policy, plan in planned:  # after all writes: an Event never costs an HPA its turn
            if _asks(EVENT, policy, plan) and self._events is not None and lane.stopped is None:
                lane.run(policy.key, EVENT, partial(self._hold, policy, plan, lane.deadline))

    def _scale(self, policy: LoadPolicy, plan: Plan, lane: _Lane) -> list[Outcome]:
        write, scaling = plan.hpa, policy.spec.scaling
        if write is None:
            return []
        if self._hpas is None:
            return [Outcome(policy.key, HPA, Result.REFUSED, "there is no Kubernetes (--kubernetes off)")]
        adopt = scaling is not None and scaling.adopt
        written = self._hpas.write(
            write, policy=policy.key, at=plan.at, adopt=adopt, fence=lane.fence, deadline=lane.deadline
        )
        outcome = Outcome(policy.key, HPA, written.result, written.detail)
        return [
            outcome,
            *self._tell(policy.key, Subject(write.namespace, write.name, written.uid), written, lane.deadline),
        ]

    def _drain(self, policy: LoadPolicy, plan: Plan, lane: _Lane) -> list[Outcome]:
        if self._pods is None or plan.drain is None:
            return []
        result, detail = self._pods.carry_out(
            plan.drain, policy.metadata.namespace, at=plan.at, fence=lane.fence, deadline=lane.deadline
        )
        return [Outcome(policy.key, DRAIN, result, detail)]

    def _give_back(self, plan: Plan, lane: _Lane) -> list[Outcome]:
        if self._hpas is None:
            return []
        what: HpaWrite | HpaRelease
        if plan.release is not None:
            what = plan.release
            written = self._hpas.release(what, policy=plan.policy, fence=lane.fence, deadline=lane.deadline)
        elif plan.hpa is not None:
            what = plan.hpa
            written = self._hpas.write(
                what, policy=plan.policy, at=plan.at, adopt=False, fence=lane.fence, deadline=lane.deadline
            )
        else:
            return []
        told = self._tell(plan.policy, Subject(what.namespace, what.name, written.uid), written, lane.deadline)
        return [Outcome(plan.policy, HPA, written.result, written.detail), *told]

    def _tell(self, policy: str, subject: Subject, written: Written, deadline: Deadline) -> list[Outcome]:
        if written.conflict:
            return self._post(policy, subject, CONFLICT, written.detail, deadline)
        if written.result is Result.DONE:
            return self._post(policy, subject, RESCALED, written.detail, deadline)
        return []

    def _hold(self, policy: LoadPolicy, plan: Plan, deadline: Deadline) -> list[Outcome]:
        scaling = policy.spec.scaling
        if self._events is None or self._hpas is None or scaling is None:
            return []
        note = "; ".join(f"{hold.field}: {hold.reason}" for hold in _holds(plan))
        namespace = policy.metadata.namespace
        if not self._events.wanted(namespace, scaling.hpa, HELD, note):
            return []
        live = self._hpas.read(hpa_path(namespace, scaling.hpa), deadline)
        if live is None:
            return []
        subject = Subject(namespace, scaling.hpa, str(live["metadata"].get("uid", "")))
        return self._post(policy.key, subject, HELD, note, deadline)

    def _post(self, policy: str, subject: Subject, reason: str, note: str, deadline: Deadline) -> list[Outcome]:
        """An Event that cannot be posted is an outcome of its own: what it tells of has happened."""
        if self._events is None or not self._events.wanted(subject.namespace, subject.name, reason, note):
            return []
        try:
            self._events.post(subject, reason, note, action=reason.removeprefix("Trimtab"), deadline=deadline)
        except DependencyError as error:
            return [Outcome(policy, EVENT, Result.FAILED, error.message, KUBERNETES)]
        return [Outcome(policy, EVENT, Result.DONE, reason)]


def _holds(plan: Plan) -> list[Hold]:
    return [hold for hold in plan.holds if hold.field.startswith(_OF_THE_HPA)]


def _asks(actuator: str, policy: LoadPolicy, plan: Plan) -> bool:
    """Whether the plan has an effect for this actuator, and the policy lets it act."""
    if policy.spec.mode is not Mode.ENFORCE:
        return False
    if actuator == DRAIN:
        return plan.drain is not None
    if actuator == PUBLISH:
        return plan.publish is not None
    if actuator == OUTPUT:
        return bool(system_of(policy)) and plan.publish is not None and plan.publish.limit is not None
    return plan.hpa is not None if actuator == HPA else policy.spec.scaling is not None and bool(_holds(plan))


def _of(task: Task, done: Mapping[tuple[str, str], Sequence[Outcome]]) -> Iterator[Outcome]:
    """The outcomes of one policy; an effect that was asked for and has none is one that did not end in time."""
    policy, plan = task
    for actuator, system in (
        (PUBLISH, REDIS),
        (OUTPUT, system_of(policy)),
        (HPA, KUBERNETES),
        (DRAIN, KUBERNETES),
        (EVENT, ""),
    ):
        found = done.get((policy.key, actuator))
        if found is not None:
            yield from found
        elif _asks(actuator, policy, plan) and system:
            yield Outcome(policy.key, actuator, Result.FAILED, "still busy; not known to be done", system)
    if policy.spec.mode is not Mode.ENFORCE:
        told = plan.publish.limit if plan.publish is not None and system_of(policy) else None
        wanted = ((PUBLISH, plan.publish), (OUTPUT, told), (HPA, plan.hpa))
        for actuator, effect in wanted:
            if effect is not None:
                yield Outcome(policy.key, actuator, Result.REFUSED, "mode is observe: nothing is written")


def _bug(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"a bug in Trimtab: {type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
