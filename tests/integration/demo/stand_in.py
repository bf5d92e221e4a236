"""Stands in for the daemon: publishes equal weights and a limit, then moves the limit and the HPA, and logs all of it."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml
from redis import Redis

from controller.lab.cluster.api import KubeApi
from trimtab.contract import Endpoint, Keys, ranking_document

HPA = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers"
PODS = "/api/v1/namespaces/models/pods"


def log(field, before, after, reason):
    change = {"field": field, "before": before, "after": after, "reason": reason}
    record = {"ts": datetime.now(UTC).isoformat(), "event": "decision", "changes": [change]}
    print(json.dumps(record), flush=True)  # noqa: T201 - its log


def main(redis_url, kubeconfig, port):
    keys = Keys("models/model-service")
    config = yaml.safe_load(Path(kubeconfig).read_text())
    kube = KubeApi(config["clusters"][0]["cluster"]["server"])
    with Redis.from_url(redis_url) as redis:
        pods = kube.get(PODS)["items"]
        rows = [
            Endpoint(f"http://{pod['status']['podIP']}:{port}", pod["metadata"]["name"], rank, 1 / len(pods), "serving")
            for rank, pod in enumerate(pods, start=1)
        ]
        redis.set(keys.limit, 32)
        document = ranking_document(
            policy=keys.policy, seq=1, published_at=time.time(), valid_for=60, limit=32, panic=False, endpoints=rows
        )
        redis.set(keys.ranking, document)
        target = {"kind": "Deployment", "name": "model-service", "apiVersion": "apps/v1"}
        body = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "model-service-hpa", "namespace": "models"},
            "spec": {"minReplicas": 4, "maxReplicas": 4, "scaleTargetRef": target},
        }
        kube.post(HPA, body)
        time.sleep(3)
        redis.set(keys.limit, 40)
        log("limit", 32, 40, "the stand-in says so")
        kube.merge(f"{HPA}/model-service-hpa", {"spec": {"minReplicas": 5, "maxReplicas": 5}})
        log("minReplicas", 4, 5, "the stand-in says so")
        time.sleep(600)


main(*sys.argv[1:])
