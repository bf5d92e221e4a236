"""Kubernetes objects that tests put on a control plane."""


class Paths:
    """The API paths of one namespace."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.hpas = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
        self.deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.events = f"/api/v1/namespaces/{namespace}/events"
        self.new_events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        self.leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def deployment(name="web", replicas=2):
    """A Deployment whose pods ask for one core and 1 GiB."""
    requests = {"cpu": "1", "memory": "1Gi"}
    container = {"name": "model", "image": "none", "resources": {"requests": requests}}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def utilization(resource, percent):
    """One metric of an HPA."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": resource, "target": target}}


def hpa(name="web", least=2, most=10, cpu=70, memory=80):
    """An HPA on the Deployment of the same name. None leaves a field out."""
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}
    spec |= {key: value for key, value in (("minReplicas", least), ("maxReplicas", most)) if value is not None}
    metrics = [utilization(kind, value) for kind, value in (("cpu", cpu), ("memory", memory)) if value is not None]
    spec |= {"metrics": metrics} if metrics else {}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": spec}


def managers(thing):
    """(manager, operation) of the object's managedFields, without those of its status."""
    entries = thing["metadata"].get("managedFields", ())
    return {(entry["manager"], entry["operation"]) for entry in entries if entry.get("subresource") != "status"}
