"""What a restart must not forget: written with a change, read once, and nothing that cannot be read does any harm."""

import json
from dataclasses import replace
from math import e

import pytest
from decide_world import change, hold, hpa, instance, policy, scale, snapshot
from hypothesis import example, given
from hypothesis import strategies as st

from controller.decide import knee_utilisation, tuning
from controller.decide.decide import decide
from controller.decide.floors.arrivals import LEAST_MARGIN, MOST_MARGIN, TRUST_SECONDS, lessons
from controller.decide.interlock import Counts
from controller.decide.learned import LONGEST_TEXT, MOST_TURNS, recall, record
from controller.decide.proposal import Proposed
from controller.decide.scaling import MAX, MIN, Bounds
from controller.decide.turns import observe, within
from controller.model.hpa import LEARNED
from controller.model.memory import Memory, Tuning, Turns, UtilisationEvidence
from controller.model.snapshot import HpaSpec, ResourceTarget
from controller.model.traffic import Arrivals, Lessons
from controller.policy.schema import Cpu

DAY = 86400.0
NOW = 1_790_000_000.0
SLO, WINDOW = 0.5, 60.0
CPU = Cpu(target=70, between=[50, 85])


def bins(values):
    return tuple(values.get(n, 0.0) for n in range(knee_utilisation.BINS))


FULLNESS = UtilisationEvidence(bins({20: 600.0, 39: 30.0}), bins({39: 90.0}), bins({20: 100.0, 39: 150.0}), NOW - 15.0)
TUNED = Tuning(
    since=NOW - 3 * DAY, stands=72, at=NOW, moved_at=NOW - DAY, good=71, held=5000.0, tight=60.0, broken=30.0,
    broken_since=NOW - 15.0, barred_from=76, barred_until=NOW + DAY, cool_down=2 * DAY,
)  # fmt: skip
ARRIVALS = Arrivals(100.0, 0.5, 3.3, NOW - 15.0, margin=5.5, promised=9.0, kept=3.0)
KNOWN = Memory(
    min_turns=Turns(1, (NOW - 600.0, NOW - 300.0)),
    max_turns=Turns(-1, (NOW - 900.0,)),
    min_changed_at=NOW - 300.0,
    max_changed_at=NOW - 900.0,
    tuning=TUNED,
    fullness=FULLNESS,
    arrivals=ARRIVALS,
)


def bounds(low=(4, 4), high=(10, 10), cpu=72):
    targets = (ResourceTarget("cpu", cpu), ResourceTarget("memory", 80))
    before = None if low[0] is None else HpaSpec("Deployment", "m", low[0], high[0], targets)
    return Bounds(before, Proposed(MIN, *low), Proposed(MAX, *high), targets, Counts(4, 4))


def written(known=KNOWN, at=NOW, per_hour=8, **moves):
    return record(known, bounds(**moves), slo_seconds=SLO, window_seconds=WINDOW, per_hour=per_hour, at=at)


def seen(text, at=NOW, **fields):
    """A service whose HPA carries the text; None for none."""
    view = hpa(
        4, 10, targets=(ResourceTarget("cpu", 72),), annotations={} if text is None else {LEARNED: text}, **fields
    )
    return snapshot([instance(n) for n in "abcd"], at=at, hpa=view, scale=scale(4))


def recalled(text, at=NOW, slo=SLO, memory=None):
    return recall(Memory() if memory is None else memory, seen(text, at), slo)


def test_what_was_known_is_known_again():
    found, unread = recalled(written())
    assert unread is None
    assert found == replace(Memory(), **{name: getattr(KNOWN, name) for name in (
        "min_turns", "max_turns", "min_changed_at", "max_changed_at", "fullness"
    )}, tuning=replace(TUNED, at=None, broken_since=None), lessons=Lessons(5.5, 0.033, 9.0, 3.0))  # fmt: skip


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        pytest.param({}, {}, id="nothing moves"),
        pytest.param({"low": (4, 6)}, {"min_changed_at": NOW}, id="min goes on up: no turn"),
        pytest.param(
            {"low": (4, 2)},
            {"min_changed_at": NOW, "min_turns": Turns(-1, (NOW - 600.0, NOW - 300.0, NOW))},
            id="min turns with this very write",
        ),
        pytest.param(
            {"high": (10, 12)}, {"max_changed_at": NOW, "max_turns": Turns(1, (NOW - 900.0, NOW))}, id="so does max"
        ),
        pytest.param(
            {"cpu": 71},
            {
                "tuning": Tuning(
                    since=NOW - 3 * DAY, stands=71, moved_at=NOW, barred_from=72, barred_until=NOW + 4 * DAY, cool_down=4 * DAY
                )
            },
            id="a roll-back bars with this very write",
        ),
        pytest.param(
            {"cpu": 73},
            {
                "tuning": Tuning(
                    since=NOW - 3 * DAY, stands=73, moved_at=NOW, good=72, barred_from=76, barred_until=NOW + DAY, cool_down=2 * DAY
                )
            },
            id="a raise is under observation with this very write",
        ),
    ],
)  # fmt: skip
def test_what_a_write_means_is_in_its_own_text(moves, expected):
    still, _ = recalled(written())
    found, _ = recalled(written(**moves))
    assert found == replace(still, **expected)


def test_a_created_hpa_has_no_past():
    found, unread = recalled(written(Memory(), low=(None, 2), high=(None, 10)))
    assert (found, unread) == (Memory(), None)


@pytest.mark.parametrize(
    ("later", "slo", "expected"),
    [
        pytest.param(0.0, SLO, {"held": 5000.0, "since": NOW - 3 * DAY}, id="just now"),
        pytest.param(DAY - 60.0, SLO, {"held": 5000.0, "since": NOW - 3 * DAY}, id="within the day"),
        pytest.param(
            DAY + 60.0, SLO, {"held": 0.0, "since": None, "barred_from": 76}, id="longer ago: the bar alone counts"
        ),
        pytest.param(
            -5 * DAY, SLO, {"since": NOW - 5 * DAY, "moved_at": NOW - 5 * DAY}, id="a clock that was ahead: now at the latest"
        ),
        pytest.param(0.0, 0.4, {"held": 0.0, "since": None, "barred_from": None}, id="evidence about another SLO is none"),
    ],
)  # fmt: skip
def test_how_long_evidence_counts(later, slo, expected):
    found, _ = recalled(written(), NOW + later, slo)
    assert {name: getattr(found.tuning, name) for name in expected} == expected
    assert (found.fullness is None) == (slo != SLO)
    assert len(found.min_turns.at) == 2, "turns are about no SLO"


def test_what_forecasts_have_taught_begins_the_next_run():
    """Margin and noise at once; of the trust in trends as much as it would have left by then."""
    found, _ = recalled(written(), NOW + TRUST_SECONDS)
    assert found.lessons == Lessons(5.5, 0.033, pytest.approx(9.0 / e), pytest.approx(3.0 / e))
    rules = policy(scaling={"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 9}, "demand": {}})
    service = replace(seen(written()), instances=tuple(instance(n, rate=50.0, cpu=0.5) for n in "abcd"))
    _, memory = decide(rules, service, Memory())
    assert (memory.arrivals.rate, memory.arrivals.margin, memory.arrivals.noise) == (200.0, 5.5, pytest.approx(6.6))
    _, forgot = decide(rules, replace(service, hpa=seen(None).hpa), Memory())
    assert forgot.arrivals.margin < 5.5


def test_rates_that_were_seen_before_the_hpa_was_do_not_drop_what_was_taught():
    young = Arrivals(80.0, 0.0, 4.0, NOW - 30.0)
    found, _ = recalled(written(), memory=Memory(arrivals=young))
    assert found.arrivals == replace(young, margin=5.5, promised=9.0, kept=3.0)


def test_of_two_pieces_of_evidence_the_larger_one_counts():
    little = UtilisationEvidence(bins({10: 15.0}), bins({}), bins({10: 3.0}), NOW)
    much = UtilisationEvidence(bins({10: 9000.0}), bins({}), bins({10: 900.0}), NOW)
    assert recalled(written(), memory=Memory(fullness=little))[0].fullness == FULLNESS
    assert recalled(written(), memory=Memory(fullness=much))[0].fullness == much


def test_it_is_read_once_and_never_again():
    running = Memory(hpa_seen_at=NOW - 60.0)
    assert recalled(written(), memory=running) == (running, None)


good = json.loads(written())
RUBBISH = [
    pytest.param("", id="empty"),
    pytest.param("{", id="cut off"),
    pytest.param("null", id="null"),
    pytest.param("[]", id="a list"),
    pytest.param("true", id="a word"),
    pytest.param("{}", id="nothing in it"),
    pytest.param(json.dumps({**good, "v": 2}), id="another version"),
    pytest.param(json.dumps({**good, "more": 1}), id="a field that nobody knows"),
    pytest.param(json.dumps({**good, "at": "now"}), id="a text for a number"),
    pytest.param(json.dumps({**good, "at": 10**15}), id="a time out of all range"),
    pytest.param(json.dumps({**good, "slo": float("nan")}), id="NaN"),
    pytest.param(json.dumps({**good, "min": {"way": 3}}), id="a third way"),
    pytest.param(json.dumps({**good, "min": {"turns": [0] * (MOST_TURNS + 1)}}), id="too many turns"),
    pytest.param(json.dumps({**good, "cpu": {"held": -1}}), id="less than nothing"),
    pytest.param(json.dumps({**good, "cpu": {"good": True}}), id="yes for a number"),
    pytest.param(json.dumps({**good, "full": {"at": 0, "bins": [[50, 1.0, 1.0, 1.0]]}}), id="a bin beyond the last"),
    pytest.param(json.dumps({**good, "full": {"at": 0, "bins": [[1, 1.0]]}}), id="half a bin"),
    pytest.param(json.dumps({**good, "full": {"at": 0, "bins": [[1, float("inf"), 0.0, 0.0]]}}), id="without end"),
    pytest.param(json.dumps({**good, "load": {"margin": 99.0, "noise": 0.1}}), id="a margin beyond the largest"),
    pytest.param(json.dumps({**good, "load": {"margin": 2.0, "noise": float("nan")}}), id="a noise that is no number"),
    pytest.param("[" * 5000, id="deep"),
    pytest.param(written() + " " * LONGEST_TEXT, id="too long"),
]


@pytest.mark.parametrize("text", RUBBISH)
def test_rubbish_is_as_absent_and_said_once(text):
    rules = policy(scaling={"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 9}})
    plan, memory = decide(rules, seen(text), Memory())
    absent, without = decide(rules, seen(None), Memory())
    assert memory == without
    assert (plan.hpa, plan.changes) == (absent.hpa, absent.changes)
    assert hold(plan, "hpa memory").reason.startswith("the annotation trimtab/learned is not as Trimtab writes it")
    again, _ = decide(rules, seen(text, NOW + 15.0), memory)
    assert hold(again, "hpa memory") is None


RULES = {
    "hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 9}, "max": {"floor": 10, "ceiling": 14},
    "cpu": {"target": 70, "between": [50, 85]}, "memory": None, "steps": {"turnsPerHour": 2, "lowerEvery": "10s"},
}  # fmt: skip


def test_a_new_decision_starts_where_the_old_one_was_killed():
    """The budget is spent, so nothing is lowered by whoever comes next; without the text it would be."""
    rules = policy(scaling=RULES)
    calm = replace(Memory(), at=NOW, calm_since=NOW - 900.0, hpa_seen_at=NOW - 900.0)
    for text, held in ((written(per_hour=2), True), (None, False)):
        _, memory = decide(rules, seen(text), Memory())
        memory = replace(calm, min_turns=memory.min_turns, max_turns=memory.max_turns)
        plan, _ = decide(rules, seen(text, NOW + 60.0), memory)
        assert (hold(plan, "minReplicas") is not None) == held
        assert (change(plan, "minReplicas") is None) == held


def test_the_text_goes_with_a_write_and_is_nobodys_to_read_in_the_plan():
    plan, _ = decide(policy(scaling=RULES), replace(seen(None), hpa=hpa(1, 10)), Memory())
    assert json.loads(plan.hpa.learned)["v"] == 1
    assert "learned" not in plan.as_dict()["hpa"]


instants = st.floats(0.0, 2e9)
percents = st.none() | st.integers(1, 2**31 - 1)
seconds = st.floats(0.0, 1e9)
turned = st.builds(
    Turns, st.sampled_from([-1, 0, 1]), st.lists(st.floats(NOW - 4000.0, NOW), max_size=150).map(lambda x: tuple(sorted(x)))
)  # fmt: skip
evidence = st.builds(
    UtilisationEvidence,
    *[st.lists(seconds, min_size=knee_utilisation.BINS, max_size=knee_utilisation.BINS).map(tuple)] * 3,
    instants,
)
memories = st.builds(
    Memory,
    min_turns=turned,
    max_turns=turned,
    min_changed_at=st.none() | instants,
    max_changed_at=st.none() | instants,
    fullness=st.none() | evidence,
    tuning=st.builds(
        Tuning, since=st.none() | instants, stands=percents, at=st.none() | instants, moved_at=st.none() | instants,
        good=percents, held=seconds, tight=seconds, broken=seconds, broken_since=st.none() | instants,
        barred_from=percents, barred_until=st.none() | instants, cool_down=st.floats(0.0, 16 * DAY),
    ),
    arrivals=st.none() | st.builds(
        Arrivals, rate=st.floats(0.0, 1e12), trend=st.floats(-1e6, 1e6), noise=st.floats(0.0, 1e12), at=instants,
        margin=st.floats(LEAST_MARGIN, MOST_MARGIN), promised=st.floats(0.0, 1e5), kept=st.floats(-1e5, 1e5),
    ),
)  # fmt: skip


@given(memories, st.integers(1, 9), st.integers(1, 9), st.integers(1, 120), st.integers(1, 1000))
def test_whatever_is_known_is_written_read_and_never_weaker(known, stood, stands, cpu, per_hour):
    text = written(known, low=(stood, stands), cpu=cpu, per_hour=per_hour)
    assert len(text) < LONGEST_TEXT / 2
    found, unread = recalled(text)
    assert unread is None
    mine = observe(known.min_turns, stood, stands, NOW)
    recent = [t for t in mine.at if t > NOW - 3600.0]
    assert found.min_turns.direction == mine.direction
    assert len(found.min_turns.at) == min(len(recent), per_hour, MOST_TURNS)
    for wish in (stands - 1, stands + 1):  # what the budget says is the same
        wanted = Proposed(MIN, stands, wish, "wish")
        if per_hour <= MOST_TURNS:
            allowed = within(wanted, mine, per_hour, NOW).after
            assert within(wanted, found.min_turns, per_hour, NOW).after == allowed
    expected = tuning.after(known.tuning, cpu, NOW)
    assert (found.tuning.good, found.tuning.barred_from) == (expected.good, expected.barred_from)
    assert found.tuning.held <= expected.held
    assert found.tuning.broken >= expected.broken
    if expected.barred_until is not None and expected.barred_until <= NOW + 16 * DAY:
        assert found.tuning.barred_until >= expected.barred_until
    if known.fullness is not None and found.fullness is not None:
        assert found.fullness.held == pytest.approx(known.fullness.held, abs=0.11)
    if known.arrivals is not None:
        assert found.lessons.margin >= known.arrivals.margin
        assert found.lessons.noise_ratio >= lessons(known.arrivals, WINDOW).noise_ratio
    again = written(found, low=(stands, stands), cpu=cpu, per_hour=per_hour)
    assert recalled(again)[0].min_turns == found.min_turns


@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists).map(json.dumps)
)
@example("NaN")
def test_any_text_at_all_is_harmless(text):
    found, unread = recalled(text)
    assert found == Memory()
    assert unread is not None


@given(
    st.fixed_dictionaries(
        {"v": st.just(1), "at": st.integers(-(10**11), 10**11), "slo": st.just(SLO)},
        optional={
            "min": st.fixed_dictionaries({"turns": st.lists(st.integers(-(10**11), 10**11), max_size=9)}),
            "cpu": st.fixed_dictionaries(
                {"until": st.integers(-(10**11), 10**11), "cool": st.integers(0, 10**11), "since": st.integers(-(10**11), 10**11)}
            ),
        },
    )
)  # fmt: skip
def test_no_instant_in_it_bars_for_longer_than_trimtab_ever_does(text):
    found, _ = recalled(json.dumps(text))
    assert all(t <= NOW for t in found.min_turns.at)
    assert (found.tuning.barred_until or 0.0) <= NOW + 16 * DAY
    assert found.tuning.cool_down <= 16 * DAY
    assert (found.tuning.since or 0.0) <= NOW


@given(st.lists(st.integers(1, 9), min_size=2, max_size=40), st.integers(1, 5))
def test_a_controller_that_dies_after_every_write_turns_no_more_often_than_one_that_lives(wishes, per_hour):
    stands, text, downs, way = wishes[0], None, 0, 0
    for n, wish in enumerate(wishes[1:]):
        at = NOW + 60.0 * n
        found, _ = recalled(text, at)
        after = within(Proposed(MIN, stands, wish), found.min_turns, per_hour, at).after
        if after == stands:
            continue
        downs += after < stands and way == 1
        way = 1 if after > stands else -1
        text = record(
            found, bounds(low=(stands, after)), slo_seconds=SLO, window_seconds=WINDOW, per_hour=per_hour, at=at
        )
        stands = after
    assert downs <= per_hour


@pytest.mark.parametrize(("forgets", "again"), [(False, False), (True, True)], ids=["with the text", "without its bar"])
def test_a_target_that_was_just_rolled_back_is_not_climbed_to_again_by_whoever_comes_next(forgets, again):
    """Evidence by the minute, all of it good: only the bar keeps the new one from trying the same at once."""
    broke = replace(TUNED, stands=72, barred_from=None, barred_until=None, cool_down=0.0, since=NOW - 9 * DAY)
    found, _ = recalled(written(replace(KNOWN, tuning=broke), cpu=71), NOW + 30.0)
    memory = replace(found.tuning, barred_from=None) if forgets else found.tuning
    tried = []
    for minute in range(int(0.9 * DAY / 60.0)):
        at = NOW + 60.0 * (minute + 1)
        memory = replace(tuning.after(memory, 71, at), stands=71, held=memory.held + 60.0)
        tried.append(tuning.propose(CPU, memory, 71, at).percent)
    assert (max(tried) >= 72) == again
