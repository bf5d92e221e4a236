"""The loop with everything around it faked: one part's failure stays its own."""

import pytest

from controller import loop as loop_module
from controller.deadline import Deadline
from controller.decide.budget import Grant
from controller.journal.record import decision_record
from controller.loop import Loop
from controller.model.fence import Fence
from controller.model.memory import Claim, Memory
from controller.model.outcome import Outcome, Result
from controller.model.plan import Change, Hold, Plan, Publish
from controller.model.sample import Absent, Fresh, Invalid, Signal
from controller.model.snapshot import Instance, ServiceSnapshot, Snapshot
from controller.model.tick import TickReport
from controller.policy.budget import Budget
from controller.policy.schema import LoadPolicy
from controller.report.explainer import Explainer
from controller.report.health import Health
from controller.report.metrics import Metrics

AT = 1_790_000_000.0


def make_policy(name, mode="enforce"):
    spec = {"mode": mode, "instances": {"selector": {"s": name}}, "signals": {"preset": "fastapi"}, "routing": {}}
    metadata = {"name": name, "namespace": "models"}
    return LoadPolicy.model_validate(
        {"apiVersion": "trimtab/v1", "kind": "LoadPolicy", "metadata": metadata, "spec": spec}
    )


ONE, TWO = make_policy("one"), make_policy("two")


class Observes:
    def __init__(self, problems=(), services=None):
        self.problems, self.services, self.deadlines = problems, services or {}, []

    def observe(self, policies, at, deadline):
        self.deadlines.append(deadline)
        services = {p.key: self.services.get(p.key, ServiceSnapshot(p.key, at, ())) for p in policies}
        return Snapshot(at, services, self.problems)


class Acts:
    def __init__(self):
        self.acted = []

    def act(self, planned, _fence, _deadline):
        self.acted.append([policy.key for policy, _ in planned])
        return tuple(Outcome(policy.key, "publish", Result.DONE, "seq 1") for policy, _ in planned)


class Leads:
    def __init__(self, fence):
        self._fence = fence

    def fence(self):
        return self._fence


class Log:
    def __init__(self):
        self.lines = []

    def _keep(self, event, **fields):
        self.lines.append((event, fields))

    info = warning = error = _keep

    def events(self, event):
        return [fields for name, fields in self.lines if name == event]


LEADING = Fence(0, lambda: True)


class Turn:
    """A loop, and what became of its ticks."""

    def __init__(self, fence=LEADING, actor=True, **observed):
        self.log, self.actor, self.metrics = Log(), Acts() if actor else None, Metrics()
        self.observer = Observes(**observed)
        self.explainer = Explainer(
            log=self.log,
            metrics=self.metrics,
            health=Health(15.0),
            systems=("Prometheus", "Redis"),
            record=lambda plan, outcomes, applied: decision_record(plan, outcomes, applied=applied),
        )
        self.loop = Loop(self.observer, self.actor, Leads(fence), self.explainer, now=lambda: AT)

    def tick(self, *policies):
        return self.loop.tick(policies, Deadline.after(10.0))

    def count(self, result):
        return self.metrics.ticks.labels(result)._value.get()


@pytest.fixture
def decides(monkeypatch):
    """Replaces decide() by one that publishes; a policy whose key is in the returned set meets a bug."""
    broken = set()

    def decide(policy, service, _memory, _grant):
        if policy.key in broken:
            raise ZeroDivisionError("no weights")
        return Plan(policy.key, service.at, Publish((), None, panic=False, valid_for_seconds=60)), Memory(at=service.at)

    monkeypatch.setattr(loop_module, "decide", decide)
    return broken


def test_a_bug_in_one_policys_decision_holds_that_policy_and_no_other(decides):
    decides.add(ONE.key)
    turn = Turn()
    report = turn.tick(ONE, TWO)
    plans = {plan.policy: plan for plan in report.plans}
    assert plans[ONE.key].publish is None
    assert [hold.field for hold in plans[ONE.key].holds] == ["everything"]
    assert plans[TWO.key].publish is not None
    assert [str(bug) for bug in report.bugs] == ["no weights"]
    (line,) = turn.log.events("bug")
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert turn.count("failed") == 1


def test_a_bug_leaves_the_memory_as_it_was(decides):
    turn = Turn()
    turn.tick(ONE)
    remembered = turn.loop.memories[ONE.key]
    decides.add(ONE.key)
    turn.tick(ONE)
    assert turn.loop.memories[ONE.key] is remembered


@pytest.mark.usefixtures("decides")
def test_a_policy_in_observe_mode_is_decided_and_not_acted_on():
    watched = make_policy("watched", mode="observe")
    turn = Turn()
    report = turn.tick(watched, TWO)
    assert turn.actor.acted == [[TWO.key]]
    assert {plan.policy for plan in report.plans} == {watched.key, TWO.key}
    assert report.acted == {TWO.key}


@pytest.mark.usefixtures("decides")
def test_a_standby_acts_on_nothing_and_still_decides():
    turn = Turn(fence=None)
    report = turn.tick(ONE)
    assert turn.actor.acted == []
    assert (len(report.plans), report.outcomes, report.acted) == (1, (), frozenset())
    assert not turn.loop.leads()


@pytest.mark.usefixtures("decides")
def test_a_dry_run_has_nobody_to_act():
    report = Turn(actor=False).tick(ONE)
    assert (report.outcomes, report.acted) == ((), frozenset())


@pytest.mark.usefixtures("decides")
def test_observing_may_take_half_of_the_tick():
    turn = Turn()
    turn.tick(ONE)
    assert 4.0 < turn.observer.deadlines[0].remaining_seconds() <= 5.0


@pytest.mark.usefixtures("decides")
def test_what_is_remembered_of_a_policy_that_is_gone_is_dropped():
    turn = Turn()
    turn.tick(ONE, TWO)
    turn.loop.forget([TWO])
    assert list(turn.loop.memories) == [TWO.key]


# What is told


def report_of(plan, outcomes=(), problems=(), service=None):
    service = service or ServiceSnapshot(plan.policy, plan.at, ())
    return TickReport(plan.at, Snapshot(plan.at, {plan.policy: service}, problems), (plan,), outcomes, (), frozenset())


def told(turn, *reports):
    for report in reports:
        turn.explainer.explain(report)
    return [fields["sentence"] for fields in turn.log.events("decision")]


def test_a_hold_is_told_when_it_begins_and_when_it_ends():
    held = Plan(ONE.key, AT, holds=(Hold("limit", "doubt 1 s"),))
    still = Plan(ONE.key, AT, holds=(Hold("limit", "doubt 2 s"),))
    over = Plan(ONE.key, AT)
    assert told(Turn(), *map(report_of, (over, held, still, over, over))) == ["held limit (doubt 1 s)", "no change"]


def test_a_change_that_cannot_be_made_is_told_once():
    plan = Plan(ONE.key, AT, changes=(Change("maxReplicas", 10, 11, "below the floor"),))
    failed = (Outcome(ONE.key, "hpa", Result.FAILED, "403 Forbidden", "Kubernetes"),)
    turn = Turn()
    assert len(told(turn, *[report_of(plan, failed)] * 4)) == 1
    (problem,) = turn.log.events("problem")
    assert problem == {"system": "Kubernetes", "message": "Kubernetes: 403 Forbidden"}


def test_each_new_change_is_told():
    plans = [Plan(ONE.key, AT, changes=(Change("limit", n, n + 1, "recovers"),)) for n in range(3)]
    assert len(told(Turn(), *map(report_of, plans))) == 3


def test_a_failure_of_ten_policies_is_one_line():
    plan = Plan(ONE.key, AT)
    failed = tuple(Outcome(f"models/{n}", "publish", Result.FAILED, "Redis: refused", "Redis") for n in range(10))
    turn = Turn()
    told(turn, report_of(plan, failed))
    assert [p["message"] for p in turn.log.events("problem")] == ["Redis: refused"]


def sampled(sample, ready=True):
    instances = (Instance("a", "http://a", {Signal.RATE: sample}, ready=ready),)
    return report_of(Plan(ONE.key, AT), service=ServiceSnapshot(ONE.key, AT, instances))


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (Invalid("not a finite number: nan"), "no fresh sample of a: invalid (not a finite number: nan)"),
        (Absent("no series answered"), "no fresh sample of a: no data (no series answered)"),
    ],
    ids=["nan", "absent"],
)
def test_an_instance_that_stops_reporting_is_told_once_and_so_is_its_return(sample, says):
    turn = Turn()
    told(turn, sampled(Fresh(1.0, 0.0)), *[sampled(sample)] * 3, sampled(Fresh(1.0, 0.0)))
    (problem,) = turn.log.events("problem")
    assert (problem["system"], problem["policy"]) == ("Prometheus", ONE.key)
    assert says in problem["message"]
    assert len(turn.log.events("recovered")) == 1


def test_one_look_without_samples_is_no_news():
    turn = Turn()
    told(turn, *[sampled(Fresh(1.0, 0.0)), sampled(Absent("a missed scrape"))] * 3)
    assert turn.log.events("problem") == []


def test_an_instance_that_never_reported_or_is_not_ready_is_no_news():
    turn = Turn()
    told(turn, sampled(Absent("none")), sampled(Fresh(1.0, 0.0)), *[sampled(Absent("none"), ready=False)] * 3)
    assert turn.log.events("problem") == []


def test_a_policys_own_trouble_is_no_outage_of_the_system_and_hides_none():
    turn = Turn()
    own = f"Prometheus: policy {ONE.key}: signal cpu: parse error"
    plan = Plan(ONE.key, AT)
    told(turn, report_of(plan, problems=(own,)))
    assert turn.metrics.up.labels("Prometheus")._value.get() == 1
    told(turn, report_of(plan, problems=("Prometheus: refused",)))
    assert turn.metrics.up.labels("Prometheus")._value.get() == 0
    told(turn, report_of(plan, problems=(own,)), report_of(plan))
    assert [(event, fields.get("policy")) for event, fields in turn.log.lines] == [
        ("problem", ONE.key),
        ("problem", None),
        ("recovered", None),
        ("recovered", ONE.key),
    ]


def budget(*names):
    spec = {"units": 9, "policies": [{"policy": f"models/{name}", "guaranteed": 2} for name in names]}
    return Budget.model_validate(
        {"apiVersion": "trimtab/v1", "kind": "Budget", "metadata": {"name": "b"}, "spec": spec}
    )  # fmt: skip


def test_grants_count_policies_that_are_not_due(monkeypatch):
    given = {}

    def decide(policy, service, _memory, grant):
        given[policy.key] = grant
        claim = Claim(running=4, maximum=4, ceiling=20, deficit=0.0, at=service.at, interval=15.0)
        return Plan(policy.key, service.at), Memory(at=service.at, claim=claim)

    monkeypatch.setattr(loop_module, "decide", decide)
    turn = Turn()
    turn.loop.budgets = (budget("one", "two"),)
    turn.tick(ONE, TWO)
    assert [given[p.key].replicas for p in (ONE, TWO)] == [None, None], "nobody is known yet"
    given.clear()
    turn.tick(ONE)
    assert given == {ONE.key: Grant(5, 2, "budget b: 8 of 9 in use, granted 5 (deficit 0 x priority 1)")}


def test_a_bug_in_the_grants_lets_everybody_keep_what_it_has(monkeypatch):
    given = {}

    def decide(policy, service, _memory, grant):
        given[policy.key] = grant
        return Plan(policy.key, service.at), Memory()

    def grants(*_):
        raise ZeroDivisionError("no units")

    monkeypatch.setattr(loop_module, "decide", decide)
    monkeypatch.setattr(loop_module, "grants", grants)
    turn = Turn()
    turn.loop.budgets = (budget("one"),)
    report = turn.tick(ONE, TWO)
    assert given == {ONE.key: Grant(None, 2, "budget b: keeps what it has"), TWO.key: None}
    assert [str(bug) for bug in report.bugs] == ["no units"]
