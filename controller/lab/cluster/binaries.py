"""Where the control plane's programs are, or one line that says how to get them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

API_SERVER = ("etcd", "kube-apiserver", "kubectl")
CONTROLLERS = "kube-controller-manager"
_SOURCE = Path(__file__).parents[3] / "hack" / "cluster"  # absent when installed from a wheel


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with etcd, kube-apiserver and kubectl, and perhaps kube-controller-manager."""

    folder: Path
    has_controllers: bool

    def path(self, program: str) -> str:
        """The program's full path."""
        return str(self.folder / program)

    @property
    def note(self) -> str:
        """What is missing and what that costs; empty when nothing is."""
        if self.has_controllers:
            return ""
        return (
            f"no {CONTROLLERS} in {self.folder}: no Deployment makes pods and no HPA scales; "
            "unset KUBEBUILDER_ASSETS and run `make cluster` for these tests"
        )


def find_binaries(environ: Mapping[str, str] = os.environ, source: Path = _SOURCE) -> Binaries | str:
    """The first of KUBEBUILDER_ASSETS and the cache folder that is complete, or the reason why there is none."""
    assets = environ.get("KUBEBUILDER_ASSETS", "")
    if assets:
        folder = Path(assets).expanduser()
        missing = [program for program in API_SERVER if not os.access(folder / program, os.X_OK)]
        if missing:
            return f"KUBEBUILDER_ASSETS={assets} has no {', '.join(missing)}; correct it, or unset it and run `make cluster`"
        return Binaries(folder, os.access(folder / CONTROLLERS, os.X_OK))
    root = (
        Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache")
        / "trimtab"
        / "cluster"
    )
    key = _key(source)
    candidates = [root / key] if key else sorted(root.glob("kubernetes-*-etcd-*"), key=_versions, reverse=True)
    for folder in candidates:
        if all(os.access(folder / program, os.X_OK) for program in (*API_SERVER, CONTROLLERS)):
            return Binaries(folder, has_controllers=True)
    return "no kube-apiserver found; run `make cluster`"


def _key(source: Path) -> str:
    """The cache folder's name as hack/cluster/build.sh makes it; empty when the sources are not here."""
    versions = []
    for module, folder in (("k8s.io/kubernetes", "kubernetes"), ("go.etcd.io/etcd/server/v3", "etcd")):
        file = source / folder / "go.mod"
        match = (
            re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", file.read_text(), re.MULTILINE)
            if file.is_file()
            else None
        )
        if match is None:
            return ""
        versions.append(match[1])
    return f"kubernetes-{versions[0]}-etcd-{versions[1]}"


def _versions(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder.name)]
