"""Each day at this time the load rises, says a real Prometheus of the last days: the replicas are there before it does."""

import itertools
import re
import time

import pytest
from acceptance_world import World
from support import past
from twin import PER_CORE, STEERED, Counted, Twin, compared, killed

from controller.lab.prometheus import PrometheusServer, Target

DAY = 86400
DAYS = 5
SAMPLE_SECONDS = 150
CALM_CORES, RISEN_CORES = 1.0, 3.5
RISES_IN, LASTS = 420, 3600
"""Seconds from now until the hour of the day that has more load, and how long that is; the test is over long before."""
STEPS = {"replicas": 2, "every": "1s", "lowerEvery": "2s"}


def days_before(namespace, now):
    """OpenMetrics text of one pod that served all there was. It ends a while ago, so that nobody takes it for one of today's."""
    labels = f'namespace="{namespace}",service="{STEERED}",pod="{STEERED}-before"'
    lines = ["# TYPE model_requests_per_second gauge"]
    for at in range(int(now) - DAYS * DAY, int(now) - 2 * SAMPLE_SECONDS - 60, SAMPLE_SECONDS):
        risen = (at - now - RISES_IN) % DAY < LASTS
        rate = PER_CORE * (RISEN_CORES if risen else CALM_CORES)
        lines.append(f"model_requests_per_second{{{labels}}} {rate} {at}")
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture
def twin(scaling_cluster, namespace, surroundings, tmp_path):
    """A steered and a plain service on a Prometheus that knows their past."""
    exporter, folder = surroundings["exporter"], tmp_path / "prometheus"
    past.fill(folder, days_before(namespace, time.time()))
    with PrometheusServer.start(
        folder,
        targets=[Target(exporter.address)],
        scrape_interval="250ms",
        scrape_config={"honor_labels": True},
        retention="30d",
    ) as prometheus:
        world = World(
            scaling_cluster, namespace, tmp_path, redis=surroundings["redis"], prometheus=prometheus, exporter=exporter
        )
        world.policy(
            least=(2, 8), most=(10, 14), memory=None, steps=STEPS, warmUp="10m", forecast={"history": f"{DAYS}d"}
        )
        yield Twin(world)
        exporter.set(namespace, None)
        scaling_cluster.metrics.clear(namespace)


def test_replicas_are_there_before_the_load_that_the_forecast_expects(twin):
    world = twin.world
    with world.daemon() as daemon, Counted(world) as history:
        twin.run(daemon, CALM_CORES, lambda: twin.runs() == (5, 2) and world.ready() == 5)
        assert world.bounds()[0] == 5
        assert re.search(r"minReplicas \d -> 5 \(forecast 7\d", daemon.decisions())
        assert "quantile of its day season x 3.5" in daemon.decisions()
        assert any(
            "quantile of its day season" in note for reason, note in world.events() if reason == "TrimtabRescaled"
        )
        twin.run(daemon, RISEN_CORES, lambda: twin.runs()[1] >= 5)
        steered, _ = compared(history)
        lows = [low for low, _ in history.bounds()]
        highs = [high for _, high in history.bounds()]
    assert killed(steered) == 0
    assert all(a <= b for series in (lows, highs) for a, b in itertools.pairwise(series)), "it only ever raises"
