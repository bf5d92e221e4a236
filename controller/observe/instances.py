"""Prometheus' series and Kubernetes' pods -> the instances of one policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from controller.model.memory import frozen
from controller.model.sample import Sample, Signal
from controller.model.snapshot import Instance, Known, NotAsked
from controller.observe.attribution import PolicyMetrics, samples
from controller.observe.kubernetes import KubeView, Pod
from controller.observe.promql import Want, names_pods, template_labels
from controller.policy.schema import LoadPolicy


def instances_of(
    policy: LoadPolicy, wants: tuple[Want, ...], metrics: PolicyMetrics, kube: KubeView, at: float
) -> tuple[Instance, ...]:
    """Every instance that either system knows, by name.

    When the key names pods and Kubernetes answered, a series whose pod is gone is no instance, and a pod without a
    series is one. Under any other key, pods are matched by address and neither adds nor removes instances.
    """
    pods = kube.pods.value if isinstance(kube.pods, Known) else None
    names = metrics.names()
    if pods is not None and names_pods(policy):
        by_name = {pod.name: pod for pod in pods}
        names = names & by_name.keys()
        if kube.selected:
            names = names | by_name.keys()
    return tuple(
        _instance(policy, metrics, name, _pod_of(policy, name, pods or ()), samples(wants, metrics, name, at))
        for name in sorted(names)
    )


def complete(policy: LoadPolicy, metrics: PolicyMetrics, kube: KubeView) -> bool:
    """Whether an instance that is not listed may be taken for gone.

    Without Kubernetes an empty list proves nothing: a Prometheus that has just started, or has lost its targets, knows
    no instance either.
    """
    if isinstance(kube.pods, Known) and kube.selected and names_pods(policy):
        return True
    return metrics.problem is None and bool(metrics.names()) and isinstance(kube.pods, Known | NotAsked)


def endpoint_of(template: str, labels: Mapping[str, str], pod_ip: str | None) -> str | None:
    """The template with its braces filled in; None when a part is not known."""
    endpoint = template
    for name in template_labels(template):
        value = (pod_ip if name == "pod_ip" else None) or labels.get(name)
        if not value:
            return None
        if name == "pod_ip" and ":" in value:
            value = f"[{value}]"
        endpoint = endpoint.replace(f"{{{name}}}", value)
    return endpoint


def _instance(
    policy: LoadPolicy, metrics: PolicyMetrics, name: str, pod: Pod | None, signals: Mapping[Signal, Sample]
) -> Instance:
    labels = metrics.labels.get(name, {policy.spec.instances.key: name})
    return Instance(
        name=name,
        endpoint=endpoint_of(policy.spec.instances.endpoint, labels, pod.ip if pod else None),
        signals=frozen(signals),
        ready=pod.ready if pod else None,
        uid=pod.uid if pod else None,
        started_at=pod.started_at if pod else None,
        terminating=pod.terminating if pod else False,
        created_at=pod.created_at if pod else None,
        ready_at=pod.ready_at if pod else None,
        pod=pod.name if pod else None,
        drain=pod.drain if pod else None,
        deletion_cost=pod.deletion_cost if pod else None,
    )


def _pod_of(policy: LoadPolicy, name: str, pods: tuple[Pod, ...]) -> Pod | None:
    if names_pods(policy):
        return next((pod for pod in pods if pod.name == name), None)
    return next(
        (pod for pod in pods if pod.ip and (name == pod.ip or name.startswith((f"{pod.ip}:", f"[{pod.ip}]")))), None
    )
