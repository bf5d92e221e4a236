"""PromQL text: escaping, placeholders, and the one query that stands for many policies' worth of the same question. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.model.sample import Signal
from controller.policy.presets import Preset
from controller.policy.schema import LoadPolicy

UP_AGE = "max by ($by) (timestamp(up{$selector}) and (up{$selector} == 1))"
"""When the target of an instance was last scraped with success: the age of samples that no preset describes."""

TARGETS = "max by ($by) (up{$selector})"
"""Every instance that Prometheus is told to scrape, whether it answers or not; a removed target has no `up` at once."""

LOOKBACK_SECONDS = 300.0
"""How far back an instant query finds a sample: no answered sample of a plain selector is older."""

MATCHERS_MAX_CHARS = 4000
"""Longest matchers of one query, so that its URL passes the proxies on the way; longer ones are split."""

_PLACEHOLDER = re.compile(r"\$(selector|pods|by|window|quantile)\b")
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


class Age(StrEnum):
    """What a query answers that is not a signal."""

    NEWEST = "age"
    """When the newest raw sample of an instance was taken, seconds since the epoch."""
    TARGET = "target"
    """Whether an instance is scraped with success, 1 or 0: one that does not answer is there as long as it is a target."""


What = Signal | Age


class Join(StrEnum):
    """How the series of an answer find their policy."""

    SELECTOR = "selector"
    """By the exact values of the selector's labels."""
    PODS = "pods"
    """By namespace and instance name: the series lack the service's label."""
    ASKED = "asked"
    """Every series that answers the policy's own query is the policy's."""


@dataclass(frozen=True, slots=True)
class Want:
    """One number that one policy wants of each of its instances, and the PromQL template that tells it."""

    policy: LoadPolicy
    what: What
    template: str
    preset: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One query and everybody who waits for its answer."""

    query: str
    join: Join
    key: str
    wants: tuple[Want, ...]


def quoted(value: str) -> str:
    """A label value as a PromQL string with its quotes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\ufffd", "\\ufffd")
    return f'"{escaped}"'


def regex_escaped(value: str) -> str:
    """A regular expression (RE2) that matches this text and nothing else."""
    return _REGEX_SPECIAL.sub(lambda match: "\\" + match.group(), value)


def matcher(label: str, values: Iterable[str]) -> str:
    """`label="a"` for one value, `label=~"a|b"` for several: equality with any of them."""
    distinct = sorted(set(values))
    if len(distinct) == 1:
        return f"{label}={quoted(distinct[0])}"
    return f"{label}=~{quoted('|'.join(regex_escaped(value) for value in distinct))}"


def matchers(selectors: Iterable[Mapping[str, str]]) -> str:
    """Matchers that every one of the selectors, all of the same label names, passes."""
    every = list(selectors)
    return ",".join(matcher(label, (selector[label] for selector in every)) for label in sorted(every[0]))


def duration(seconds: float) -> str:
    """Seconds as a PromQL duration."""
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def pod_selector(policy: LoadPolicy) -> dict[str, str]:
    """The selector for series that know pods and namespaces only, as cAdvisor's and kube-state-metrics' do."""
    return {"namespace": policy.spec.instances.selector.get("namespace", policy.metadata.namespace)}


def names_pods(policy: LoadPolicy) -> bool:
    """Whether the key label holds pod names: `pod`, `kubernetes_pod_name`, `exported_pod`."""
    return "pod" in policy.spec.instances.key.lower()


def template_labels(endpoint: str) -> tuple[str, ...]:
    """The names in braces of an endpoint template, sorted: `http://{pod_ip}:{port}` -> pod_ip, port."""
    return tuple(sorted(set(re.findall(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}", endpoint))))


def wants_of(policy: LoadPolicy, preset: Preset | None) -> tuple[Want, ...]:
    """Everything to ask for one policy: its preset's signals, its own in their place, and their age."""
    signals = policy.spec.signals
    wanted = {signal: (query, signals.preset) for signal, query in (preset.queries if preset else {}).items()}
    wanted |= {signal: (query, None) for signal, query in signals.custom().items()}
    wants = [Want(policy, signal, query, source) for signal, (query, source) in wanted.items()]
    age = preset.age if preset else UP_AGE
    if policy.spec.scaling is None or not names_pods(policy):  # else Kubernetes lists every instance
        wants.append(Want(policy, Age.TARGET, TARGETS))
    return (*wants, Want(policy, Age.NEWEST, age, signals.preset))


def last_seen(want: Want) -> Want:
    """The same question about the recent past, for instances whose target no longer answers.

    A scrape that fails ends a series at once, while a rate over it goes on for a window: such a rate is old, and this
    tells how old. Without a preset, a target that is down and was not seen up counts as seen at the epoch.
    """
    seconds = max(LOOKBACK_SECONDS, 2 * want.policy.spec.signals.window)
    template = f"max_over_time(({want.template})[{duration(seconds)}:15s])"
    if want.template == UP_AGE:
        template += " or max by ($by) (up{$selector} * 0)"
    return Want(want.policy, want.what, template, want.preset)


def questions(wants: Iterable[Want]) -> tuple[Question, ...]:
    """The fewest queries that answer all wants of one Prometheus server.

    Wants share a query when template, selector label names, key and the placeholders they use are the same. A template
    without `$by` says itself how to group, so only wants whose finished text is identical share it.
    """
    groups: dict[tuple[object, ...], list[Want]] = {}
    for want in wants:
        groups.setdefault(_group(want), []).append(want)
    return tuple(
        Question(_render(part), _join(part[0]), part[0].policy.spec.instances.key, tuple(part))
        for group in groups.values()
        for part in _split(group)
    )


def requirements(wants: Iterable[Want], required: Mapping[str, tuple[str, ...]]) -> tuple[Question, ...]:
    """One query for each preset that tells which of its required metrics have series, by policy."""
    asked = []
    for want in wants:
        if want.preset is not None and required[want.preset]:
            names = quoted("|".join(regex_escaped(name) for name in required[want.preset]))
            template = f"count by (__name__, $by) ({{__name__=~{names}, $selector}})"
            asked.append(Want(want.policy, Age.NEWEST, template, want.preset))
    return questions(asked)


def _join(want: Want) -> Join:
    used = set(_PLACEHOLDER.findall(want.template))
    # A query that uses both joins pods to the service itself, so its series carry the service's labels.
    if "pods" in used and "selector" not in used:
        return Join.PODS
    return Join.SELECTOR if "by" in used else Join.ASKED


def _group(want: Want) -> tuple[object, ...]:
    join = _join(want)
    if join is Join.ASKED:
        return (join, want.policy.spec.instances.key, _render([want]))
    used = set(_PLACEHOLDER.findall(want.template))
    spec = want.policy.spec
    return (
        join,
        want.template,
        spec.instances.key,
        _by(want),
        tuple(sorted(spec.instances.selector)) if join is Join.SELECTOR else None,
        spec.signals.window if "window" in used else None,
        spec.slo.quantile if "quantile" in used else None,
    )


def _split(group: list[Want]) -> list[list[Want]]:
    """Parts whose matchers are short enough; one part almost always."""
    if len(group) == 1 or _join(group[0]) is Join.ASKED or len(_render(group)) <= MATCHERS_MAX_CHARS:
        return [group]
    middle = len(group) // 2
    return [*_split(group[:middle]), *_split(group[middle:])]


def _by(want: Want) -> tuple[str, ...]:
    instances = want.policy.spec.instances
    if _join(want) is Join.PODS:
        return tuple(sorted({"namespace", instances.key}))
    labels = {instances.key, *instances.selector}
    # Only the age carries the endpoint's labels, else an instance with two ports would have two latencies.
    if isinstance(want.what, Age):
        labels.update(template_labels(instances.endpoint))
    return tuple(sorted(labels))


def _pods(group: list[Want]) -> str:
    """Empty when the selector has no namespace and the query joins pods by itself: then pods of any may be the service's."""
    if _join(group[0]) is not Join.PODS and "namespace" not in group[0].policy.spec.instances.selector:
        return ""
    return matchers(pod_selector(want.policy) for want in group)


def _render(group: list[Want]) -> str:
    first = group[0]
    values = {
        "selector": matchers(want.policy.spec.instances.selector for want in group),
        "pods": _pods(group),
        "by": ", ".join(_by(first)),
        "window": duration(first.policy.spec.signals.window),
        "quantile": repr(first.policy.spec.slo.quantile),
    }
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], first.template)
