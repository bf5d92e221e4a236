"""What the demo plays: the fleet, the load, the events, and the policy. All its numbers are here."""

from __future__ import annotations

from controller.lab.fleet import Make
from controller.lab.load import Phase

NAMESPACE = "models"
SERVICE = "model-service"
POLICY = f"{NAMESPACE}/{SERVICE}"
HPA = "model-service-hpa"
REPLICAS = 4
PORT = 8000
SEED = 7

SLOTS = 4
SERVICE_SECONDS = 0.12
SPEEDS = (1.0, 0.9, 0.6, 0.4, 1.0)
"""Of the first, second, ... server; those that scaling adds are as fast as the first."""
MAKES = tuple(Make(SLOTS, SERVICE_SECONDS, speed) for speed in SPEEDS)

SLOWED = 0
"""Which server slows down: the first, the fastest, which holds the most traffic."""
SLOWDOWN = 4.0

WARM_UP, STEADY, SLOW, DOUBLE = "warm-up", "steady", "one slow", "double load"
PHASES = (Phase(WARM_UP, 6.0, 40.0), Phase(STEADY, 12.0, 40.0), Phase(SLOW, 14.0, 40.0), Phase(DOUBLE, 22.0, 80.0))
"""Requests/s are for each of the two sides. The warm-up is played but not judged."""
JUDGED = (STEADY, SLOW, DOUBLE)
KEPT = (Phase("kept", 24 * 3600.0, 40.0),)
"""The load that goes on after the end with --keep."""

POLICY_TEXT = f"""\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {{name: {SERVICE}, namespace: {NAMESPACE}}}
spec:
  interval: 1s                      # the demo lasts a minute: all times here are shorter than the defaults
  instances:
    selector: {{namespace: {NAMESPACE}, service: {SERVICE}}}
    key: pod
    endpoint: "http://{{pod_ip}}:PORT"
  signals:
    preset: fastapi
    window: 4s
    freshFor: 10s
    utilisation:
      query: "sum by ($by) (rate(model_slot_busy_seconds_total{{$selector}}[$window])) / sum by ($by) (model_slots{{$selector}})"
    cpu:                            # a busy slot stands for a busy core
      query: "sum by ($by) (rate(container_cpu_usage_seconds_total{{$selector}}[$window])) / sum by ($by) (model_slots{{$selector}})"
    memory: {{query: "sum by ($by) (container_memory_working_set_bytes{{$selector}}) / 4e9"}}
    inFlight: {{query: "sum by ($by) (http_requests_inprogress{{$selector}})"}}
  slo: {{latency: 600ms, quantile: 0.95, errors: 1%}}
  routing: {{threshold: 1s, after: 2s, slowStart: 5s, maxChange: 50%, validFor: 30s}}
  concurrency: {{queue: model_requests, perInstance: 8, min: 24, max: 64}}
  scaling:
    hpa: {HPA}
    target: {{kind: Deployment, name: {SERVICE}}}
    min: {{floor: 4, ceiling: 6}}
    max: {{floor: 4, ceiling: 7}}     # no room until demand asks for it
    cpu: {{target: 70}}
    memory: {{target: 80}}
    steps: {{replicas: 2, every: 6s, lowerEvery: 5m}}
"""


def policy_text(port: int) -> str:
    """The policy file, for servers that listen on that port."""
    return POLICY_TEXT.replace("PORT", str(port))


def deployment() -> dict[str, object]:
    """The fleet as Kubernetes knows it: as many cores requested as there are slots."""
    labels = {"app": SERVICE}
    resources = {"requests": {"cpu": str(SLOTS), "memory": "4Gi"}, "limits": {"cpu": str(SLOTS), "memory": "4Gi"}}
    container = {"name": "model", "image": "model-server", "resources": resources}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
