"""The policy, as users write it. Field descriptions end up in the JSON Schema and so in the user's editor."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controller.model.sample import Signal
from controller.policy.quantity import Duration, Ratio

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"

Replicas = Annotated[int, Field(ge=1, le=100_000)]
Percent = Annotated[int, Field(ge=1, le=1000)]
LabelName = Annotated[str, Field(pattern=LABEL_NAME)]


class Section(BaseModel):
    """Strict and frozen: an unknown field, a string for a number, a change after loading are all errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Mode(StrEnum):
    """Whether the controller acts."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Metadata(Section):
    """Which service this policy is for. `namespace/name` names its Redis keys."""

    name: Annotated[str, Field(pattern=DNS_NAME)]
    namespace: Annotated[str, Field(pattern=DNS_LABEL)] = "default"


class Instances(Section):
    """Which series belong to this service, and how clients reach each of its instances."""

    selector: Annotated[dict[LabelName, str], Field(min_length=1)] = Field(
        description="Label matchers (equality) added to every query."
    )
    key: LabelName = Field("pod", description="The label that names an instance.")
    endpoint: Annotated[str, Field(min_length=1)] = Field(
        "http://{pod_ip}:8000",
        description="How clients reach an instance. `{pod_ip}` comes from Kubernetes, any other name from the labels.",
    )


class CustomSignal(Section):
    """A signal given as PromQL, in the signal's base unit, with one series per instance.

    `$selector` stands for the label matchers, `$by` for the labels to group by, `$window` for the rate window.
    """

    query: Annotated[str, Field(min_length=1)]


class Signals(Section):
    """Where the numbers come from: a preset, and PromQL for what it lacks or gets wrong."""

    preset: str | None = Field(None, description="Name of a preset; `trimtab schema --presets` lists them.")
    prometheus: str | None = Field(None, description="URL of another Prometheus than the controller's own.")
    window: Duration = Field(60.0, description="Rate window; at least four scrape intervals.", validate_default=False)
    freshFor: Duration = Field(60.0, description="A sample older than this freezes decreases.", validate_default=False)
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

    @model_validator(mode="after")
    def _something_to_read(self) -> Signals:
        if self.preset is None and not self.custom():
            raise ValueError("give a preset, or at least one signal with a query")
        return self


class Slo(Section):
    """What the service promises."""

    latency: Duration = Field(0.5, description="Response time to keep.", validate_default=False)
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="Share of requests that keep it.")
    errors: Ratio = Field(0.01, description="Share of requests that may fail.", validate_default=False)


class Routing(Section):
    """Endpoint weights, published to Redis."""

    threshold: Duration | None = Field(
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
        0.25, description="Largest relative change of a weight per publish.", validate_default=False
    )
    validFor: Duration = Field(60.0, description="Clients may use a ranking for this long.", validate_default=False)


class Concurrency(Section):
    """The fleet-wide limit of the request queue."""

    queue: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_.:-]+$")] = "model_requests"
    perInstance: Annotated[int, Field(ge=1, le=10_000)] = Field(5, description="Requests in flight per ready instance.")
    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] = 200

    @model_validator(mode="after")
    def _ordered(self) -> Concurrency:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Bound(Section):
    """How far one bound of the HPA may be moved."""

    floor: Replicas
    ceiling: Replicas

    @model_validator(mode="after")
    def _ordered(self) -> Bound:
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor} is above ceiling {self.ceiling}")
        return self


class ScaleTarget(Section):
    """The workload that the HPA scales."""

    kind: Literal["Deployment", "StatefulSet", "ReplicaSet"] = "Deployment"
    name: Annotated[str, Field(pattern=DNS_NAME)]


class Cpu(Section):
    """CPU target, percent of the request."""

    target: Percent = 70
    between: Annotated[list[Percent], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Lets Trimtab tune the target inside this range."
    )

    @model_validator(mode="after")
    def _inside(self) -> Cpu:
        if self.between is not None and not self.between[0] <= self.target <= self.between[1]:
            raise ValueError(f"target {self.target} lies outside between {self.between}")
        return self


class Memory(Section):
    """Memory target, percent of the request."""

    target: Percent = 80


class Steps(Section):
    """How fast bounds move. Raising min starts pods at once and lowering max stops them, so both go in steps."""

    replicas: Annotated[int, Field(ge=1)] = Field(2, description="Largest change of a bound per step.")
    every: Duration = Field(30.0, description="Shortest time between two raises of a bound.", validate_default=False)
    lowerEvery: Duration = Field(
        300.0, description="Shortest time between two lowerings of a bound.", validate_default=False
    )


class Scaling(Section):
    """The HorizontalPodAutoscaler and how far it may be steered."""

    hpa: Annotated[str, Field(pattern=DNS_NAME)] = Field(description="Created when absent, adopted when present.")
    target: ScaleTarget
    min: Bound = Field(default_factory=lambda: Bound(floor=2, ceiling=2))
    max: Bound = Field(default_factory=lambda: Bound(floor=10, ceiling=10))
    cpu: Cpu | None = Field(default_factory=Cpu)
    memory: Memory | None = Field(default_factory=Memory)
    steps: Steps = Field(default_factory=Steps)
    adopt: bool = Field(True, description="Take over the bounds of an HPA that somebody applied by hand.")

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min.floor > self.max.floor:
            raise ValueError(f"min.floor {self.min.floor} is above max.floor {self.max.floor}")
        if self.min.ceiling > self.max.ceiling:
            raise ValueError(f"min.ceiling {self.min.ceiling} is above max.ceiling {self.max.ceiling}")
        if self.cpu is None and self.memory is None:
            raise ValueError("give at least one of cpu and memory: an HPA without a metric does not scale")
        return self


class Spec(Section):
    """What to observe and what may be moved. A section that is omitted does nothing."""

    interval: Duration = Field(15.0, description="How often to decide.", validate_default=False)
    mode: Mode = Field(Mode.ENFORCE, description="`observe` decides and reports, and writes nothing.", strict=False)
    instances: Instances
    signals: Signals
    slo: Slo = Field(default_factory=Slo)
    routing: Routing | None = None
    concurrency: Concurrency | None = None
    scaling: Scaling | None = None


class LoadPolicy(Section):
    """One service's load policy."""

    apiVersion: Literal["trimtab/v1"]
    kind: Literal["LoadPolicy"]
    metadata: Metadata
    spec: Spec

    @property
    def key(self) -> str:
        """`namespace/name`: how logs, metrics and Redis keys name this policy."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
