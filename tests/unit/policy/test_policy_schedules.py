"""Faults of schedules, as `trimtab validate` words them."""

import json

import pytest

from controller.errors import PolicyError
from controller.policy.files import PolicyFile
from controller.policy.load import parse

GOOD = {"name": "office", "from": "08:00", "to": "20:00", "timezone": "Europe/Berlin", "min": 4}


def faults(*schedules, **scaling):
    value = {
        "apiVersion": "trimtab/v1",
        "kind": "LoadPolicy",
        "metadata": {"name": "m", "namespace": "models"},
        "spec": {
            "instances": {"selector": {"app": "m"}},
            "signals": {"preset": "fastapi"},
            "scaling": {"hpa": "h", "target": {"name": "m"}, "min": {"floor": 2, "ceiling": 6}, "schedules": schedules, **scaling},
        },
    }  # fmt: skip
    try:
        parse([PolicyFile("p.yaml", json.dumps(value).encode())])
    except PolicyError as error:
        return [(fault.field.removeprefix("spec.scaling"), fault.message) for fault in error.faults]
    return []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="plain"),
        pytest.param({"to": "24:00"}, id="to midnight"),
        pytest.param({"from": "22:00", "to": "06:00"}, id="overnight"),
        pytest.param({"days": ["sat", "sun"]}, id="days"),
        pytest.param({"dates": ["2028-02-29"]}, id="a leap day"),
        pytest.param({"timezone": "UTC"}, id="UTC"),
        pytest.param({"min": 6}, id="at the ceiling"),
    ],
)
def test_what_loads(change):
    assert faults({**GOOD, **change}) == []


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        pytest.param({"timezone": "Europe/Berlim"}, ".schedules[0].timezone", "did you mean Europe/Berlin?", id="zone"),
        pytest.param({"from": "25:00"}, ".schedules[0].from", "must be a time of day", id="hour"),
        pytest.param({"to": "8pm"}, ".schedules[0].to", "must be a time of day", id="words"),
        pytest.param({"to": "24:30"}, ".schedules[0].to", "must be a time of day", id="after midnight"),
        pytest.param({"to": "08:00"}, ".schedules[0]", "a whole day is from 00:00 to 24:00", id="empty window"),
        pytest.param({"dates": ["2026-02-30"]}, ".schedules[0].dates[0]", "no day of the calendar", id="no such day"),
        pytest.param({"days": ["monday"]}, ".schedules[0].days[0]", "must be mon, tue", id="day"),
        pytest.param({"min": 7}, "", "schedule office asks for min 7, above min.ceiling 6", id="above the ceiling"),
        pytest.param({"min": 0}, ".schedules[0].min", "must be at least 1", id="nothing"),
    ],
)
def test_faults(change, field, says):
    assert [(where, says in message) for where, message in faults({**GOOD, **change})] == [(field, True)]


def test_two_of_one_name():
    assert faults(GOOD, {**GOOD, "to": "21:00"}) == [("", "two schedules are named office")]


def test_a_warm_up_of_a_day_is_refused():
    assert faults(warmUp="1d") == [(".warmUp", "must be at most 21600s")]
