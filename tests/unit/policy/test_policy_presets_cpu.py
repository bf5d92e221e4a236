"""The preset kubernetes beside a request rate: no CPU figure while it covers other seconds than the rate does.

A capacity is rate ÷ utilisation. Where half of the CPU stands beside a whole request rate, an instance would be taken for twice
as large as it is, and get the traffic for it.
"""

from dataclasses import dataclass, field

import pytest
import yaml
from presets_world import filled, needs_promtool, promtool

from controller.model.sample import Signal
from controller.policy.presets import load_preset
from controller.policy.promql import fill

STEP = 15
UNTIL = 900
CPU = filled(load_preset("kubernetes").queries[Signal.CPU])
RATE = fill("sum by (namespace, pod) (rate(requests_total[$window]))", window="60s")
CAPACITY = 20.0
"""Ten requests a second on one of two cores."""


@dataclass
class Life:
    """When things happen, seconds. A gap is (from, to): at `from` it is gone already, at `to` it is back.

    Args:
        container: the seconds in which it runs; a second life counts from zero again, and has another id if `ids`.
        serves: the seconds in which it uses one core for ten requests a second, and its target answers.
        kubelet_lost: the kubelet is not scraped, and its containers go on.
        scrapes_failed: scrapes of the server that fail, seconds.
        ids: whether the kubelet's series carry the container's id.
    """

    container: list[tuple[int, int]] = field(default_factory=lambda: [(0, UNTIL)])
    serves: list[tuple[int, int]] = field(default_factory=lambda: [(0, UNTIL)])
    kubelet_lost: tuple[int, int] = (UNTIL, UNTIL)
    scrapes_failed: tuple[int, ...] = ()
    ids: bool = True
    kubelet_every: int = 30

    def world(self):
        labels = 'namespace="models",pod="p"'
        times = range(0, UNTIL + STEP, STEP)
        yield f"up{{{labels}}}", [self._up(t) for t in times]
        yield f"requests_total{{{labels}}}", [self._requests(t) for t in times]
        yield f'kube_pod_container_resource_limits{{{labels},container="app",resource="cpu"}}', [2 for _ in times]
        name = f'container_cpu_usage_seconds_total{{{labels},container="app"'
        if not self.ids:
            yield name + "}", [next(filter(None, (self._cpu(t, life) for life in self.container)), None) for t in times]
        else:
            for number, life in enumerate(self.container):
                yield f'{name},id="{number}"}}', [self._cpu(t, life) for t in times]

    def _up(self, t):
        if not any(a <= t < b for a, b in self.container):
            return None
        return int(any(a <= t < b for a, b in self.serves) and t not in self.scrapes_failed)

    def _requests(self, t):
        began = [a for a, b in self.serves if a <= t < b]
        return 10 * (t - began[0]) if began and t not in self.scrapes_failed else None

    def _cpu(self, t, life):
        lost = self.kubelet_lost[0] <= t < self.kubelet_lost[1]
        if lost or t % self.kubelet_every or not life[0] <= t < life[1]:
            return None
        return sum(max(0, min(t, b) - max(life[0], a)) for a, b in self.serves)


def values(numbers):
    """Samples in promtool's notation. No series is marked as ended: kubelets give their own timestamps, and those never are."""
    return " ".join("_" if number is None else str(number) for number in numbers)


LIVES = {
    # id: the life, then what the CPU says at which second; None is absent.
    "healthy": (Life(), {180: 0.5, 400: 0.5, 890: 0.5}),
    "healthy, the kubelet scraped every 15 s": (Life(kubelet_every=15), {180: 0.5, 400: 0.5, 890: 0.5}),
    "healthy, the kubelet scraped every minute": (Life(kubelet_every=60), {240: 0.5, 400: 0.5, 890: 0.5}),
    "one scrape of the server failed": (Life(scrapes_failed=(405,)), {405: 0.5, 420: 0.5, 535: 0.5}),
    "young": (
        Life(container=[(300, UNTIL)], serves=[(300, UNTIL)]),
        {360: None, 375: None, 405: None, 450: 0.5, 500: 0.5},
    ),
    "young, after half a minute of loading": (
        Life(container=[(300, UNTIL)], serves=[(330, UNTIL)]),
        {390: None, 420: None, 435: None, 480: 0.5, 500: 0.5},
    ),
    "old, but it has only now loaded its model": (
        Life(serves=[(450, UNTIL)]),
        {440: None, 510: None, 540: None, 560: None, 600: 0.5},
    ),
    "back after three minutes as another container": (
        Life(container=[(0, 300), (480, UNTIL)], serves=[(0, 300), (480, UNTIL)]),
        {290: 0.5, 540: None, 570: None, 590: None, 630: 0.5},
    ),
    "back after three minutes, no ids": (
        Life(container=[(0, 300), (480, UNTIL)], serves=[(0, 300), (480, UNTIL)], ids=False),
        {290: 0.5, 540: None, 570: None, 590: None, 630: 0.5},
    ),
    "restarted at once": (
        Life(container=[(0, 300), (315, UNTIL)], serves=[(0, 300), (315, UNTIL)]),
        {290: 0.5, 360: None, 390: None, 420: None, 465: 0.5},
    ),
    "restarted at once, no ids": (
        Life(container=[(0, 300), (315, UNTIL)], serves=[(0, 300), (315, UNTIL)], ids=False),
        {290: 0.5, 360: None, 390: None, 420: 0.5, 465: 0.5},
    ),
    "restarted, and half a minute of loading": (
        Life(container=[(0, 300), (315, UNTIL)], serves=[(0, 300), (345, UNTIL)]),
        {360: None, 405: None, 430: None, 480: 0.5},
    ),
    "restarted, and more than a minute of loading": (
        Life(container=[(0, 300), (315, UNTIL)], serves=[(0, 300), (390, UNTIL)]),
        {405: None, 450: None, 480: None, 540: 0.5},
    ),
    "the kubelet lost for a minute": (
        Life(kubelet_lost=(330, 390)),
        {329: 0.5, 345: 0.5, 360: 0.5, 390: 0.5, 420: 0.5, 480: 0.5},
    ),
    "the kubelet lost for good": (
        Life(kubelet_lost=(330, UNTIL)),
        {329: 0.5, 345: 0.5, 360: 0.5, 375: None, 405: None, 500: None},
    ),
    "the kubelet back after three minutes": (
        Life(kubelet_lost=(300, 480)),
        {400: None, 510: None, 590: None, 660: 0.5},
    ),
}


@pytest.fixture
def ask(tmp_path):
    def ask(life, checks):
        """Whether Prometheus answers each expression at its second with the number, None for no series."""
        world = [{"series": name, "values": values(numbers)} for name, numbers in life.world()]
        checked = [
            {
                "expr": expression,
                "eval_time": f"{at}s",
                "exp_samples": [] if number is None else [{"labels": '{namespace="models",pod="p"}', "value": number}],
            }
            for expression, at, number in checks
        ]
        file = tmp_path / "tests.yaml"
        test = {"interval": f"{STEP}s", "input_series": world, "promql_expr_test": checked}
        file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": f"{STEP}s", "tests": [test]}))
        done = promtool("test", "rules", str(file))
        assert done.returncode == 0, done.stdout + done.stderr

    return ask


@needs_promtool
@pytest.mark.parametrize(("life", "expected"), LIVES.values(), ids=LIVES)
def test_cpu_is_whole_or_absent(ask, life, expected):
    ask(life, [(f"round({CPU}, 0.001)", at, number) for at, number in expected.items()])


@needs_promtool
@pytest.mark.parametrize("life", [life for life, _ in LIVES.values()], ids=LIVES)
def test_no_capacity_ever_reads_too_high(ask, life):
    """Every 5 s of the whole life; and there is a last one, so that silence does not pass.

    A seventh is what one interval of scrapes, in which nobody sees that the server is not there, makes of two minutes.
    """
    capacity = f"({RATE} / ({CPU}))"
    too_high = f"count_over_time(({capacity} > {8 / 7 * CAPACITY})[{UNTIL}s:5s])"
    last = [] if life.kubelet_lost[1] == UNTIL != life.kubelet_lost[0] else [(f"round({capacity}, 0.1)", 890, CAPACITY)]
    ask(life, [(too_high, UNTIL, None), *last])


@dataclass
class Doubling(Life):
    """From the middle on, twice as many requests and twice the CPU."""

    def _requests(self, t):
        return 10 * (t + max(0, t - UNTIL // 2))

    def _cpu(self, t, life):
        alone = super()._cpu(t, life)
        return None if alone is None else alone + max(0, t - UNTIL // 2)


WHOLE_RATE = (
    f"(({RATE}) + ({fill('sum by (namespace, pod) (rate(requests_total[$window] offset 1m))', window='60s')})) / 2"
)
"""The mean rate over what the CPU covers, as decide/windows.py has it from its ticks."""


@needs_promtool
@pytest.mark.parametrize("kubelet_every", [15, 30])
def test_a_rate_over_the_time_of_the_cpu_is_off_by_a_sixth_at_most_while_the_load_doubles(ask, kubelet_every):
    """A sixth is what the kubelet's scrapes are apart; the rate of the window alone reads over a third too much."""
    since = f"[{UNTIL - 300}s:5s]"
    capacities = {"window": f"(({RATE}) / ({CPU}))", "whole": f"(({WHOLE_RATE}) / ({CPU}))"}
    high = {name: f"max_over_time({capacity}{since})" for name, capacity in capacities.items()}
    ask(Doubling(kubelet_every=kubelet_every), [
        (f"{high['whole']} > {1.17 * CAPACITY}", UNTIL - 10, None),
        (f"min_over_time({capacities['whole']}{since}) < {CAPACITY / 1.17}", UNTIL - 10, None),
        (f"0 * ({high['window']} > {1.35 * CAPACITY})", UNTIL - 10, 0),
    ])  # fmt: skip
