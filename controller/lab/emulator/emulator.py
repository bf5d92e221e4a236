"""An emulated control plane in this process, for machines without the real one.

    with Emulator.start(folder) as plane: ...

It answers what Trimtab asks (lists, scale, apply with field ownership, Events, Leases), runs a crude Deployment and HPA
controller, and takes faults. It knows no authentication, RBAC, watch or admission; tests/contract holds it to the answers
of a real API server for the calls that Trimtab makes.

Not built on the `kmock` package: kmock 0.8 records requests and replays canned answers well, but its objects have no
resourceVersion, managedFields, validation or server-side apply, which are just what Trimtab's safety rests on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from controller.lab.cluster.api import ApiError, KubeApi
from controller.lab.cluster.kubelet import Hooks, Kubelet
from controller.lab.cluster.numbers import PodNumbers
from controller.lab.emulator.controllers import Controllers
from controller.lab.emulator.faults import Faults
from controller.lab.emulator.server import Router, Server
from controller.lab.emulator.store import Store


class Emulator:
    """A running emulator, with the parts of `Cluster`'s interface that make sense.

    Attributes:
        server: its URL (plain HTTP).
        kubeconfig: a kubeconfig for it.
        metrics: what the pods use; the HPA reads it directly.
        kubelet: the stand-in kubelet, the same as the real control plane's.
        faults: faults to inject; they hit the kubelet too, so give them a path.
        store: the objects, for looking behind the API.
    """

    has_controllers = True

    def __init__(self, folder: Path, hooks: Hooks, hpa_sync_seconds: float, downscale_seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._closing: list[Callable[[], None]] = []
        self._apis: dict[int, KubeApi] = {}
        self.metrics = PodNumbers()
        self.faults = Faults()
        self.store = Store()
        for name in ("default", "kube-system", "kube-node-lease"):
            self.store.create("namespaces", "", {"metadata": {"name": name}}, "emulator")
        http = Server(Router(self.store), self.faults)
        self._closing.append(http.stop)
        self.server = http.url
        self.kubeconfig = self._kubeconfig(folder / "emulator.kubeconfig")
        self._closing.append(self.kubeconfig.unlink)
        self.kubelet = Kubelet(KubeApi(self.server), hooks)
        self._closing.append(self.kubelet.stop)
        controllers = Controllers(
            self.store, self.metrics, hpa_sync_seconds=hpa_sync_seconds, downscale_seconds=downscale_seconds
        )
        self._closing.append(controllers.stop)
        self.kubelet.start()
        controllers.start()

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        hooks: Hooks | None = None,
        hpa_sync_seconds: float = 1.0,
        hpa_downscale_stabilization_seconds: float = 5.0,
    ) -> Emulator:
        """Start it; it serves when this returns. Its kubeconfig is written into `folder`."""
        return cls(folder, hooks or Hooks(), hpa_sync_seconds, hpa_downscale_stabilization_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything. May be called twice."""
        while self._closing:
            self._closing.pop()()

    def api(self, timeout_seconds: float | None = None) -> KubeApi:
        """A connection, closed by `stop()`: this thread's own, or a new one with another timeout."""
        thread = threading.get_ident()
        if timeout_seconds is None and thread in self._apis:
            return self._apis[thread]
        api = KubeApi(self.server, timeout_seconds=timeout_seconds or 10.0)
        self._closing.append(api.close)
        if timeout_seconds is None:
            self._apis[thread] = api
        return api

    def delete_namespace(self, namespace: str) -> None:
        """Remove a namespace and all in it."""
        with self.store.lock:
            for resource in (
                "horizontalpodautoscalers",
                "deployments",
                "pods",
                "events",
                "leases",
                "services",
                "configmaps",
            ):
                for thing in self.store.list(resource, namespace):
                    self.store.delete(resource, namespace, thing["metadata"]["name"], grace_seconds=0)
            try:
                self.store.delete("namespaces", "", namespace)
            except ApiError:
                return

    def _kubeconfig(self, path: Path) -> Path:
        context = {"cluster": "emulator", "user": "nobody", "namespace": "default"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "emulator",
            "clusters": [{"name": "emulator", "cluster": {"server": self.server}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "emulator", "context": context}],
        }
        path.write_text(json.dumps(document))  # JSON is YAML
        return path
