"""Says so when instances that used to report stop: an outage that Prometheus itself does not notice."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.model.sample import Fresh, Invalid, Sample, describe
from controller.model.snapshot import Instance, ServiceSnapshot

MOST_NAMED = 3


@dataclass(slots=True)
class GapWatch:
    """Remembers which instances of each policy have reported, so that a new one, or an idle fleet, is no news.

    Nor is a single look without samples: a missed scrape, or a Prometheus that has just come back with old ones.
    """

    _reporting: dict[str, set[str]] = field(default_factory=dict)
    _dark: dict[str, set[str]] = field(default_factory=dict)

    def look(self, service: ServiceSnapshot) -> str | None:
        """One line about the policy's instances without any fresh sample; None when there are none, or nobody can say."""
        if service.metrics_problem is not None:
            return None
        known = self._reporting.setdefault(service.policy, set())
        serving = {i.name: i for i in service.instances if i.ready is not False and not i.terminating}
        known |= {name for name, instance in serving.items() if _reports(instance)}
        if service.instances_complete:
            known &= serving.keys()
        now = {name for name in known if name not in serving or not _reports(serving[name])}
        dark = sorted(now & self._dark.get(service.policy, set()))
        self._dark[service.policy] = now
        if not dark:
            return None
        named = ", ".join(dark[:MOST_NAMED]) + (f" and {len(dark) - MOST_NAMED} more" if len(dark) > MOST_NAMED else "")
        why = _why(serving[dark[0]]) if dark[0] in serving else "no series answered"
        return f"Prometheus: policy {service.policy}: no fresh sample of {named}: {why}; nothing is lowered"


def _reports(instance: Instance) -> bool:
    return any(isinstance(sample, Fresh) for sample in instance.signals.values())


def _why(instance: Instance) -> str:
    samples: list[Sample] = list(instance.signals.values())
    worst = next((s for s in samples if isinstance(s, Invalid)), samples[0] if samples else None)
    return "no signal is defined" if worst is None else describe(worst)
