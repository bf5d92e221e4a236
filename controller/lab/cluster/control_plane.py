"""A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager, a stand-in kubelet, metrics.

    with Cluster.start(folder) as cluster:
        cluster.kubectl("get", "nodes")

Everything listens on 127.0.0.1 on free ports, writes only below `folder`, and ends with this process, however it ends.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from controller.lab.cluster.api import ApiError, KubeApi
from controller.lab.cluster.binaries import Binaries, find_binaries
from controller.lab.cluster.certificates import FRONT_PROXY_NAME, write_certificates
from controller.lab.cluster.kubelet import NODE, Hooks, Kubelet
from controller.lab.cluster.metrics import ROOT, MetricsServer
from controller.lab.cluster.numbers import PodNumbers
from controller.lab.cluster.processes import Processes, StartError, free_ports

ETCD, API_SERVER, CONTROLLERS = "etcd", "kube-apiserver", "kube-controller-manager"
_CONTROLLERS = (  # what Deployments, HPAs and namespaces need; the whole set takes 5 s longer to start
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "horizontal-pod-autoscaler-controller",
    "node-lifecycle-controller",  # pods stay unready without it
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "endpointslice-controller",
    "disruption-controller",
)
_START_SECONDS = 90.0  # a slow, busy machine; 6 s is usual
_TRIES = 3


class Cluster:
    """A running control plane. Make one with `Cluster.start`.

    Attributes:
        server: the API server's URL.
        kubeconfig: a kubeconfig of an administrator.
        ca_file: the CA that signed the API server's certificate.
        metrics: what the pods use, behind metrics.k8s.io.
        kubelet: the stand-in kubelet; its `hooks` may be changed while it runs.
        has_controllers: False with the binaries of envtest alone: no pods, no HPA then.
    """

    def __init__(self, folder: Path, binaries: Binaries, hooks: Hooks, feature_gates: str = "") -> None:
        self.folder = folder.resolve()
        self.has_controllers = binaries.has_controllers
        self.metrics = PodNumbers()
        self._binaries = binaries
        self._feature_gates = feature_gates
        self._run = self.folder / "run"
        self._pki = self._run / "pki"
        self.ca_file = self._pki / "ca.crt"
        self._closing: list[Callable[[], None]] = []
        self._apis: dict[int, KubeApi] = {}
        self._argv: dict[str, list[str]] = {}
        self._pids: dict[str, int] = {}
        self._run.mkdir(parents=True)
        write_certificates(self._pki)
        self._processes = Processes(self.folder / "logs", remove=[self._run])
        self._closing.append(self._processes.stop)
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        self.server = f"https://127.0.0.1:{self._port}"
        self.kubeconfig = self._kubeconfig("admin", {"client-certificate": "admin.crt", "client-key": "admin.key"})
        self._admin = self.api()
        self.kubelet = Kubelet(self._api_for("admin"), hooks)
        self._closing.append(self.kubelet.stop)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        binaries: Binaries | None = None,
        hooks: Hooks | None = None,
        hpa_sync_seconds: float = 1.0,
        hpa_downscale_stabilization_seconds: float = 5.0,
        feature_gates: str = "",
    ) -> Cluster:
        """Start everything and return when it serves. `folder` must not hold another cluster.

        Args:
            feature_gates: of the API server and the controllers, such as `HPAScaleToZero=true`.

        Raises:
            StartError: no binaries (the message says what to do), or a process failed (its last log lines).
        """
        found = binaries or find_binaries()
        if isinstance(found, str):
            raise StartError(found)
        for left in reversed(range(_TRIES)):
            cluster = cls(folder, found, hooks or Hooks(), feature_gates)
            try:
                cluster._start(hpa_sync_seconds, hpa_downscale_stabilization_seconds)
            except StartError as error:
                cluster.stop()
                if left == 0 or "address already in use" not in str(error):  # a port was taken between choice and use
                    raise
            except BaseException:
                cluster.stop()
                raise
            else:
                return cluster
        raise AssertionError  # the last try returned or raised

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything and remove its data; logs stay in `folder/logs`. May be called twice."""
        while self._closing:
            self._closing.pop()()

    def api(self, timeout_seconds: float | None = None) -> KubeApi:
        """An administrator's connection, closed by `stop()`: this thread's own, or a new one with another timeout."""
        thread = threading.get_ident()
        if timeout_seconds is None and thread in self._apis:
            return self._apis[thread]
        api = self._api_for("admin")
        self._closing.append(api.close)
        if timeout_seconds is None:
            self._apis[thread] = api
        else:
            api.timeout_seconds = timeout_seconds
        return api

    def api_for(self, namespace: str, serviceaccount: str) -> KubeApi:
        """A connection with the rights of a ServiceAccount; closed by `stop()`."""
        api = KubeApi(self.server, ca=self.ca_file, token=self._token(namespace, serviceaccount))
        self._closing.append(api.close)
        return api

    def kubeconfig_for(self, namespace: str, serviceaccount: str) -> Path:
        """A kubeconfig with an hour's token of an existing ServiceAccount."""
        token = self._token(namespace, serviceaccount)
        return self._kubeconfig(f"{namespace}-{serviceaccount}", {"token": token}, namespace)

    def kubectl(self, *args: str, kubeconfig: Path | None = None, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints (stdout); RuntimeError with its stderr when it fails and `check`."""
        argv = [self._binaries.path("kubectl"), f"--kubeconfig={kubeconfig or self.kubeconfig}", *args]
        environ = {**os.environ, "KUBECACHEDIR": str(self._run / "kubectl-cache")}
        done = subprocess.run(  # noqa: S603 - our own kubectl, no shell
            argv, input=stdin, capture_output=True, text=True, timeout=30, check=False, env=environ
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout if not done.returncode else done.stdout + done.stderr

    def pids(self) -> dict[str, int]:
        """The processes' ids by program."""
        return dict(self._pids)

    def pause(self, program: str = API_SERVER) -> None:
        """Make a program hang (SIGSTOP) until `resume`."""
        self._processes.signal(program, signal.SIGSTOP)

    def resume(self, program: str = API_SERVER) -> None:
        """Undo `pause`."""
        self._processes.signal(program, signal.SIGCONT)

    def kill(self, program: str = API_SERVER) -> None:
        """Kill a program (SIGKILL); it stays away until `restart`."""
        self._processes.signal(program, signal.SIGKILL)

    def restart(self, program: str = API_SERVER) -> None:
        """Start a killed program again, on its old port and data, and wait until the API server is ready."""
        self._launch(program)
        self._processes.wait(program, lambda: self._admin.answers("/readyz"), [program], _START_SECONDS)

    def delete_namespace(self, namespace: str) -> None:
        """Ask for a namespace to go; it goes in its own time."""
        with contextlib.suppress(ApiError):
            self._admin.delete(f"/api/v1/namespaces/{namespace}")

    def _start(self, hpa_sync_seconds: float, hpa_downscale_stabilization_seconds: float) -> None:
        self._argv = {
            ETCD: self._etcd_argv(),
            API_SERVER: self._api_server_argv(),
            CONTROLLERS: self._controllers_argv(hpa_sync_seconds, hpa_downscale_stabilization_seconds),
        }
        self._launch(ETCD)
        self._launch(API_SERVER)  # it waits for etcd by itself
        watched = [ETCD, API_SERVER]
        self._processes.wait("kube-apiserver", lambda: self._admin.answers("/readyz"), watched, _START_SECONDS)
        if self.has_controllers:
            self._launch(CONTROLLERS)
            watched.append(CONTROLLERS)
        metrics_server = MetricsServer(self._pki, self.metrics, self._api_for("admin"))
        self._closing.append(metrics_server.stop)
        self.kubelet.start()
        metrics_server.register(self._admin, base64.b64encode((self.ca_file).read_bytes()).decode())
        self._processes.wait("the controllers", self._is_settled, watched, _START_SECONDS)

    def _is_settled(self) -> bool:
        if not self._admin.answers(f"/api/v1/nodes/{NODE}") or not self._admin.answers(f"{ROOT}/pods"):
            return False
        return not self.has_controllers or self._admin.answers("/api/v1/namespaces/default/serviceaccounts/default")

    def _launch(self, program: str) -> None:
        self._pids[program] = self._processes.start(program, [self._binaries.path(program), *self._argv[program]])

    def _api_for(self, user: str) -> KubeApi:
        return KubeApi(self.server, ca=self.ca_file, cert=(self._pki / f"{user}.crt", self._pki / f"{user}.key"))

    def _token(self, namespace: str, serviceaccount: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{serviceaccount}/token"
        return str(self._admin.post(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"])

    def _kubeconfig(self, name: str, user: dict[str, str], namespace: str = "default") -> Path:
        files = {key: str(self._pki / value) if key.startswith("client-") else value for key, value in user.items()}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [
                {"name": "lab", "cluster": {"server": self.server, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": name, "user": files}],
            "contexts": [{"name": name, "context": {"cluster": "lab", "user": name, "namespace": namespace}}],
        }
        path = self._run / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))  # JSON is YAML
        return path

    def _etcd_argv(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            f"--data-dir={self._run / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server_argv(self) -> list[str]:
        pki = self._pki
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false",
            "--profiling=false",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'server.crt'}",
            f"--tls-private-key-file={pki / 'server.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'service-account.pub'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
            f"--requestheader-allowed-names={FRONT_PROXY_NAME}",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy.key'}",
            f"--feature-gates={self._feature_gates}",
        ]

    def _controllers_argv(self, hpa_sync_seconds: float, hpa_downscale_stabilization_seconds: float) -> list[str]:
        credentials = {"client-certificate": "controllers.crt", "client-key": "controllers.key"}
        return [
            f"--kubeconfig={self._kubeconfig('controllers', credentials)}",
            "--secure-port=0",
            "--leader-elect=false",
            f"--controllers={','.join(_CONTROLLERS)}",
            f"--service-account-private-key-file={self._pki / 'service-account.key'}",
            f"--root-ca-file={self._pki / 'ca.crt'}",
            f"--horizontal-pod-autoscaler-sync-period={hpa_sync_seconds:g}s",
            f"--horizontal-pod-autoscaler-downscale-stabilization={hpa_downscale_stabilization_seconds:g}s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--feature-gates={self._feature_gates}",
        ]
