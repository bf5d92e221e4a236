"""No test is skipped silently: the run's last lines say which, why and how many; NO_SKIPS=1 makes them failures."""

import os
from collections import Counter

import pytest

GROUPS = ("cluster", "integration", "fault")
_skipped = pytest.StashKey[Counter]()


def pytest_configure(config):
    config.stash[_skipped] = Counter()


def _is_skip(report):
    return report.skipped and not hasattr(report, "wasxfail")


def _reason(report):
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _handle(report, config, group):
    if not _is_skip(report):
        return
    reason = _reason(report)
    if os.environ.get("NO_SKIPS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped although NO_SKIPS=1: {reason}"
    else:
        config.stash[_skipped][group, reason] += 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    markers = [group for group in GROUPS if item.get_closest_marker(group)]
    _handle(report, item.config, markers[0] if markers else _folder(item.nodeid))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _handle(report, collector.config, _folder(collector.nodeid))
    return report


def _folder(nodeid):
    parts = nodeid.split("::")[0].split("/")
    return parts[1] if len(parts) > 2 else parts[0]


def pytest_unconfigure(config):  # later than the summary and its last line of counts
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:
        return
    for (group, reason), count in sorted(config.stash.get(_skipped, Counter()).items()):
        terminal.write_line(f"SKIPPED {group} tests: {reason} ({count} test{'s' if count > 1 else ''})", yellow=True)
