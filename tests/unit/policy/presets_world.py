"""Presets' queries as observing sends them, and Prometheus' own tool to parse and evaluate them."""

import shutil
import subprocess

import pytest

from controller.policy.promql import fill

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian package prometheus) is not installed")

FILLED = {
    "selector": 'namespace="models",service="s"',
    "window": "60s",
    "quantile": "0.95",
    "pods": 'namespace="models"',
}


def filled(query):
    """As observing does it: series that know no Service are grouped without its label."""
    by = "namespace, pod" if "$pods" in query else "namespace, service, pod"
    return fill(query, by=by, **FILLED)


def promtool(*arguments):
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)
