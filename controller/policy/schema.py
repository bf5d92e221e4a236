"""The policy, as users write it. Field descriptions end up in the JSON Schema and so in the user's editor."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from controller.model.sample import Signal
from controller.policy.address import endpoint_template, server_url
from controller.policy.behavior import GivenBehavior
from controller.policy.calendar import CALENDAR_DATE, TIME_OF_DAY, WEEKDAYS, known_date, known_zone
from controller.policy.output import QUEUE_NAME, Output
from controller.policy.promql import checked_query, longest_range
from controller.policy.quantity import Duration, Ratio, at_least, at_most
from controller.policy.section import Section
from controller.policy.steps import Steps

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"

Replicas = Annotated[int, Field(ge=1, le=100_000)]
Percent = Annotated[int, Field(ge=1, le=1000)]
TimeOfDay = Annotated[str, Field(pattern=TIME_OF_DAY)]
LabelName = Annotated[str, Field(pattern=LABEL_NAME)]
Interval = Annotated[Duration, AfterValidator(at_least(1.0))]
"""A duration of a second or more."""
Positive = Annotated[Duration, AfterValidator(at_least(0.001))]
"""A duration above zero."""


def _empty_is_default(value: object) -> object:
    return {} if value is None else value


WithDefaults = BeforeValidator(_empty_is_default)
"""A section with nothing behind its colon (`routing:`) is there, with its defaults, just as `routing: {}`."""


class Mode(StrEnum):
    """Whether the controller acts."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Metadata(Section):
    """Which service this policy is for. `namespace/name` names its Redis keys."""

    name: Annotated[str, Field(pattern=DNS_NAME)] = Field(description="Name of the policy, unique in its namespace.")
    namespace: Annotated[str, Field(pattern=DNS_LABEL)] = Field(
        "default", description="Namespace of the service, its workload and its HPA."
    )


class Instances(Section):
    """Which series belong to this service, and how clients reach each of its instances."""

    selector: Annotated[dict[LabelName, str], Field(min_length=1)] = Field(
        description="Label matchers (equality) added to every query."
    )
    key: LabelName = Field("pod", description="The label that names an instance.")
    endpoint: Annotated[str, Field(min_length=1), AfterValidator(endpoint_template)] = Field(
        "http://{pod_ip}:8000",
        description="How clients reach an instance. `{pod_ip}` comes from Kubernetes, any other name from the labels.",
    )


class CustomSignal(Section):
    """A signal given as PromQL, in the signal's base unit, with one series per instance.

    `$selector` stands for the label matchers, `$by` for the labels to group by, `$window` for the rate window,
    `$quantile` for the SLO's quantile, `$pods` for the matcher on the namespace alone.
    """

    query: Annotated[str, Field(min_length=1), AfterValidator(checked_query)] = Field(
        description="PromQL with one series per instance; group it `by ($by)`."
    )


PRESET_CPU_SECONDS = 120.0
"""What the presets' CPU is a mean over."""


class Signals(Section):
    """Where the numbers come from: a preset, and PromQL for what it lacks or gets wrong."""

    preset: str | None = Field(
        None, description="Name of a preset, the queries of a well-known server; docs/presets.md lists them."
    )
    prometheus: Annotated[str, AfterValidator(server_url)] | None = Field(
        None, description="URL of another Prometheus than the controller's own."
    )
    window: Interval = Field(60.0, description="Rate window; at least four scrape intervals.", validate_default=False)
    freshFor: Interval = Field(60.0, description="A sample older than this freezes decreases.", validate_default=False)
    latency: CustomSignal | None = Field(None, description="Mean response time, seconds.")
    latencyQuantile: CustomSignal | None = Field(None, description="Response time at the SLO's quantile, seconds.")
    rate: CustomSignal | None = Field(None, description="Requests finished per second.")
    errors: CustomSignal | None = Field(None, description="Failed share of the finished requests, 0..1.")
    cpu: CustomSignal | None = Field(None, description="CPU used, ratio of the limit.")
    memory: CustomSignal | None = Field(None, description="Memory used, ratio of the limit.")
    utilisation: CustomSignal | None = Field(None, description="How full the server says it is, 0..1.")
    inFlight: CustomSignal | None = Field(None, description="Requests inside the server, running and waiting.")
    queue: CustomSignal | None = Field(None, description="Requests waiting inside the server.")

    def custom(self) -> dict[Signal, str]:
        """The signals that the policy gives or replaces by PromQL."""
        given = {signal: getattr(self, signal.value) for signal in Signal}
        return {signal: custom.query for signal, custom in given.items() if custom is not None}

    @property
    def cpu_seconds(self) -> float:
        """What the CPU is a mean over, which is not the window where kubelets are scraped more seldom than servers."""
        return PRESET_CPU_SECONDS if self.cpu is None else longest_range(self.cpu.query, self.window)

    @model_validator(mode="after")
    def _something_to_read(self) -> Signals:
        if self.preset is None and not self.custom():
            raise ValueError("give a preset, or at least one signal with a query")
        return self


class Slo(Section):
    """What the service promises."""

    latency: Positive = Field(0.5, description="Response time to keep.", validate_default=False)
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="Share of requests that keep it.")
    errors: Ratio = Field(0.01, description="Share of requests that may fail.", validate_default=False)


class Routing(Section):
    """Endpoint weights, published to Redis."""

    threshold: Positive | None = Field(
        None,
        description="Mean response time above which an instance hands new requests to others; default slo.latency.",
    )
    after: Duration = Field(30.0, description="How long it must stay above.", validate_default=False)
    recover: Ratio = Field(
        0.8, description="It recovers once below this share of the threshold for as long.", validate_default=False
    )
    floor: Ratio = Field(
        0.1,
        description="Smallest weight, as a share of an equal share, so that every instance stays known.",
        validate_default=False,
    )
    maxChange: Ratio = Field(
        0.5, description="Largest relative change of a weight per publish.", validate_default=False
    )
    slowStart: Duration = Field(
        30.0, description="A new instance's weight rises over this time from a tenth.", validate_default=False
    )
    validFor: Interval = Field(60.0, description="Clients may use a ranking for this long.", validate_default=False)


class Concurrency(Section):
    """The fleet-wide limit of the request queue."""

    queue: Annotated[str, Field(min_length=1, max_length=200, pattern=QUEUE_NAME)] = Field(
        "model_requests", description="Name of the request queue in Redis."
    )
    perInstance: Annotated[int, Field(ge=1, le=10_000)] = Field(5, description="Requests in flight per ready instance.")
    min: Annotated[int, Field(ge=1, le=10_000_000)] = Field(1, description="The limit never goes below.")
    max: Annotated[int, Field(ge=1, le=10_000_000)] = Field(200, description="The limit never goes above.")
    adaptive: bool = Field(
        False, description="Find the limit from throughput and response times instead of perInstance x ready instances."
    )
    output: Output | None = Field(None, description="Tell an existing queue, BullMQ's or Celery's, the limit as well.")

    @model_validator(mode="after")
    def _ordered(self) -> Concurrency:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Bound(Section):
    """How far one bound of the HPA may be moved."""

    floor: Replicas = Field(description="The bound starts here and never goes below, in replicas.")
    ceiling: Replicas = Field(description="The bound never goes above, in replicas.")

    @model_validator(mode="after")
    def _ordered(self) -> Bound:
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor} is above ceiling {self.ceiling}")
        return self


class LeastBound(Bound):
    """How far minReplicas may be moved."""

    floor: Annotated[int, Field(ge=0, le=100_000)] = Field(
        description="minReplicas starts here and never goes below; 0 needs an Object or External metric on the HPA."
    )


class ScaleTarget(Section):
    """The workload that the HPA scales."""

    kind: Literal["Deployment", "StatefulSet", "ReplicaSet"] = Field("Deployment", description="Kind of the workload.")
    name: Annotated[str, Field(pattern=DNS_NAME)] = Field(description="Name of the workload.")


class Cpu(Section):
    """CPU target, percent of the request."""

    target: Percent = Field(70, description="Average CPU use to aim at, percent of the request.")
    between: Annotated[list[Percent], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Lets Trimtab tune the target inside this range, from the one that stands."
    )
    pointsPerDay: Annotated[int, Field(ge=1, le=50)] = Field(
        5, description="Largest raise of a tuned target in a day, percent points."
    )

    @model_validator(mode="after")
    def _inside(self) -> Cpu:
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError(f"between {self.between} has its larger number first")
        if self.between is not None and not self.between[0] <= self.target <= self.between[1]:
            raise ValueError(f"target {self.target} lies outside between {self.between}")
        return self


class Memory(Section):
    """Memory target, percent of the request."""

    target: Percent = Field(80, description="Average memory use to aim at, percent of the request.")


class Schedule(Section):
    """A window on the wall clock in which minReplicas is at least `min`."""

    name: Annotated[str, Field(pattern=DNS_NAME)] = Field(description="Named in reasons, unique in its policy.")
    days: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1)] | None = Field(
        None, description="Days on which it opens; default all, or none if `dates` are given."
    )
    dates: Annotated[
        list[Annotated[str, Field(pattern=CALENDAR_DATE), AfterValidator(known_date)]], Field(min_length=1)
    ] = Field(default_factory=list, description="Single dates on which it opens, such as 2026-12-24.")
    from_: TimeOfDay = Field(alias="from", description="Local time at which it opens, such as 08:00.")
    to: TimeOfDay = Field(description="Local time at which it closes; not after `from` means on the next day.")
    timezone: Annotated[str, AfterValidator(known_zone)] = Field(description="IANA name, such as Europe/Berlin.")
    min: Replicas = Field(description="Least minReplicas while it is open, at most scaling.min.ceiling.")

    @property
    def weekdays(self) -> tuple[str, ...]:
        """The days on which it opens, beside its dates."""
        if self.days is not None:
            return tuple(self.days)
        return () if self.dates else WEEKDAYS

    @model_validator(mode="after")
    def _not_empty(self) -> Schedule:
        if self.from_ == self.to:
            raise ValueError(f"from and to are both {self.to}; a whole day is from 00:00 to 24:00")
        return self


class Demand(Section):
    """A least minReplicas from what arrives and waits: (arrivals + backlog ÷ drain) ÷ capacity of one replica."""

    utilisation: Annotated[Ratio, Field(ge=0.05)] | None = Field(
        None, description="Share of a replica's capacity to plan for; default: the highest at which the SLO held."
    )
    drain: Positive = Field(60.0, description="Time in which a backlog should be served.", validate_default=False)


class Drain(Section):
    """Lets scale-in take idle instances: the ones that are to go get no new requests, and a lower pod deletion cost."""

    grace: Annotated[Duration, AfterValidator(at_most(3600.0))] = Field(
        30.0, description="Longest wait for the requests that are still inside.", validate_default=False
    )


class Forecast(Section):
    """A least minReplicas from how the service's own rate went at this point of the hour, day and week before."""

    enabled: bool = Field(True, description="Read the rate's history and forecast from it.")
    history: Annotated[Duration, AfterValidator(at_least(2 * 86400.0)), AfterValidator(at_most(35 * 86400.0))] = Field(
        21 * 86400.0, description="How far back to read the rate from Prometheus.", validate_default=False
    )


class Scaling(Section):
    """The HorizontalPodAutoscaler and how far it may be steered."""

    hpa: Annotated[str, Field(pattern=DNS_NAME)] = Field(description="Created when absent, adopted when present.")
    target: ScaleTarget = Field(description="The workload that the HPA scales.")
    min: LeastBound = Field(
        default_factory=lambda: LeastBound(floor=2, ceiling=2),
        description="How far minReplicas may be moved; default 2 to 2, so not at all.",
    )
    max: Bound = Field(
        default_factory=lambda: Bound(floor=10, ceiling=10),
        description="How far maxReplicas may be moved; default 10 to 10, so not at all.",
    )
    cpu: Cpu | None = Field(
        default_factory=Cpu, description="CPU metric of the HPA; `cpu: null` leaves the metric out."
    )
    memory: Memory | None = Field(
        default_factory=Memory, description="Memory metric of the HPA; `memory: null` leaves the metric out."
    )
    steps: Annotated[Steps, WithDefaults] = Field(default_factory=Steps, description="How fast the bounds move.")
    schedules: list[Schedule] = Field(default_factory=list, description="Windows on the wall clock with a higher min.")
    warmUp: Annotated[Duration, AfterValidator(at_most(6 * 3600.0))] | None = Field(
        None,
        description="Time a new replica takes to serve; floors are raised this far ahead. Omitted: learned from the pods.",
    )
    demand: Annotated[Demand | None, WithDefaults] = Field(
        None, description="Raise min to what arrives and waits; omitted: only a broken SLO or a backlog raises it."
    )
    behavior: GivenBehavior | None = Field(
        None, description="The HPA's own speed, as in `autoscaling/v2`; omitted: left as it is."
    )
    drain: Annotated[Drain | None, WithDefaults] = Field(
        None,
        description="Drain instances before min is lowered; needs the verb patch on pods. Omitted: none is drained.",
    )
    forecast: Annotated[Forecast | None, WithDefaults] = Field(
        None, description="Raise min ahead of what the hour, day or week before has shown; omitted: no forecast."
    )
    adopt: bool = Field(True, description="Take over the bounds of an HPA that somebody applied by hand.")

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min.floor > self.max.floor:
            raise ValueError(f"min.floor {self.min.floor} is above max.floor {self.max.floor}")
        if self.min.ceiling > self.max.ceiling:
            raise ValueError(f"min.ceiling {self.min.ceiling} is above max.ceiling {self.max.ceiling}")
        if self.cpu is None and self.memory is None:
            raise ValueError("give at least one of cpu and memory: an HPA without a metric does not scale")
        for index, schedule in enumerate(self.schedules):
            if schedule.min > self.min.ceiling:
                raise ValueError(
                    f"schedule {schedule.name} asks for min {schedule.min}, above min.ceiling {self.min.ceiling}"
                )
            if schedule.name in {other.name for other in self.schedules[:index]}:
                raise ValueError(f"two schedules are named {schedule.name}")
        return self


class Spec(Section):
    """What to observe and what may be moved. A section that is omitted does nothing."""

    interval: Interval = Field(15.0, description="How often to decide.", validate_default=False)
    mode: Mode = Field(Mode.ENFORCE, description="`observe` decides and reports, and writes nothing.", strict=False)
    instances: Instances = Field(description="Which instances serve, and how clients reach them.")
    signals: Signals = Field(description="Where the numbers come from.")
    slo: Annotated[Slo, WithDefaults] = Field(default_factory=Slo, description="What the service promises.")
    routing: Annotated[Routing | None, WithDefaults] = Field(
        None, description="Publish endpoint weights; omitted: none are published."
    )
    concurrency: Annotated[Concurrency | None, WithDefaults] = Field(
        None, description="Move the queue's limit; omitted: no limit is set."
    )
    scaling: Annotated[Scaling | None, WithDefaults] = Field(
        None, description="Steer the HPA; omitted: no HPA is touched."
    )


class LoadPolicy(Section):
    """One service's load policy."""

    apiVersion: Literal["trimtab/v1"] = Field(description="Version of this schema.")
    kind: Literal["LoadPolicy"] = Field(description="Always LoadPolicy.")
    metadata: Metadata = Field(description="Which service this policy is for.")
    spec: Spec = Field(description="What to observe and what may be moved.")

    @property
    def key(self) -> str:
        """`namespace/name`: how logs, metrics and Redis keys name this policy."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
