import pytest

from controller.report.problems import REMIND_AFTER_SECONDS, ProblemLog


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields))

    info = warning


@pytest.fixture
def log():
    return Log()


def test_an_outage_is_one_line_however_many_ticks_it_lasts_and_its_end_is_another(log):
    problems = ProblemLog(log)
    for at in range(0, 300, 15):
        problems.report([f"Prometheus: refused by port {at}"], float(at))
    problems.report([], 300.0)
    assert [event for event, _ in log.lines] == ["problem", "recovered"]
    assert log.lines[1][1] == {"system": "Prometheus", "after_seconds": 300.0}


def test_two_systems_are_two_lines(log):
    problems = ProblemLog(log)
    problems.report(["Redis: timed out", "Prometheus: refused"], 0.0)
    problems.report(["Prometheus: refused"], 15.0)
    assert [(event, fields["system"]) for event, fields in log.lines] == [
        ("problem", "Redis"), ("problem", "Prometheus"), ("recovered", "Redis"),
    ]  # fmt: skip
    assert problems.open_systems() == ("Prometheus",)


def test_a_long_outage_is_said_again_after_a_while(log):
    problems = ProblemLog(log)
    problems.report(["Redis: timed out"], 0.0)
    problems.report(["Redis: timed out"], REMIND_AFTER_SECONDS - 1)
    problems.report(["Redis: timed out"], REMIND_AFTER_SECONDS)
    assert [fields.get("for_seconds") for _, fields in log.lines] == [None, 600]
