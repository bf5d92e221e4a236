"""The run's last lines name what was skipped; NO_SKIPS=1 allows none."""

import pytest

TESTS = """
import pytest

pytestmark = pytest.mark.cluster

@pytest.fixture(scope="session")
def plane():
    pytest.skip("no kube-apiserver found; run `make cluster`")

def test_one(plane): ...
def test_two(plane): ...

@pytest.mark.xfail
def test_known_fault():
    assert False
"""


@pytest.fixture
def run(pytester, monkeypatch):
    pytester.makeini("[pytest]\nmarkers = cluster: x")
    pytester.makepyfile(TESTS)

    def start(no_skips):
        monkeypatch.setenv("NO_SKIPS", no_skips)
        return pytester.runpytest_inprocess("-p", "plugins.skips")

    return start


def test_skips_are_the_last_line(run):
    result = run("0")
    result.assert_outcomes(skipped=2, xfailed=1)
    assert result.outlines[-1] == "SKIPPED cluster tests: no kube-apiserver found; run `make cluster` (2 tests)"


def test_skips_are_failures_when_none_are_allowed(run):
    result = run("1")
    assert result.parseoutcomes() == {"errors": 2, "xfailed": 1}
    result.stdout.fnmatch_lines(["*skipped although NO_SKIPS=1: no kube-apiserver found*"])
    assert not any(line.startswith("SKIPPED") for line in result.outlines)
