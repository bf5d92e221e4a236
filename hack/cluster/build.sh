#!/usr/bin/env bash
# Build a Kubernetes control plane for tests from published Go modules, once, into a cache folder.
#
# usage: hack/cluster/build.sh [FOLDER]     (default: the cache folder that the tests look in)
#
# The versions live in kubernetes/go.mod and etcd/go.mod beside this script; the folder is keyed by
# them, so a new version builds anew and an unchanged one returns at once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

version_of() { # MODULE FOLDER
    awk -v module="$1" '$1 == "require" && $2 == module { print $3 } $1 == module && $2 ~ /^v/ { print $2 }' "$here/$2/go.mod" | head -n 1
}
kubernetes_version=$(version_of k8s.io/kubernetes kubernetes)
etcd_version=$(version_of go.etcd.io/etcd/server/v3 etcd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trimtab/cluster
target=${1:-$cache/kubernetes-$kubernetes_version-etcd-$etcd_version}

missing=()
for program in etcd kube-apiserver kube-controller-manager kubectl; do
    [ -x "$target/$program" ] || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "cluster: ready in $target"
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "cluster: no Go toolchain found; install Go 1.26, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl" >&2
    exit 1
fi

# The Go release the server was made with: a newer one builds an API server that serves a malformed /openapi/v2.
wanted_go=$(awk '$1 == "go" { split($2, part, "."); print part[1] "." part[2] }' "$here/kubernetes/go.mod")
have_go=$(go env GOVERSION | sed -E 's/^go([0-9]+\.[0-9]+).*/\1/')
if [ "$have_go" != "$wanted_go" ]; then
    echo "cluster: Go $wanted_go is wanted to build Kubernetes $kubernetes_version, found $have_go" >&2
    exit 1
fi

minor=$(echo "$kubernetes_version" | sed -E 's/^v[0-9]+\.([0-9]+).*/\1/')
stamp="-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes_version"
stamp+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
stamp+=" -X k8s.io/component-base/version.gitTreeState=clean"
export CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false"

mkdir -p "$target"
build() { # PROGRAM MODULE-FOLDER PACKAGE
    [ -x "$target/$1" ] && return
    local started=$SECONDS
    echo "cluster: building $1 ..."
    (cd "$here/$2" && go build -ldflags "$stamp" -o "$target/$1.part" "$3")
    mv "$target/$1.part" "$target/$1"   # whole or absent: an interrupted build leaves no half binary
    echo "cluster: built $1 in $((SECONDS - started)) s"
}
echo "cluster: building Kubernetes $kubernetes_version and etcd $etcd_version into $target (about 12 minutes on 2 cores, once)"
build etcd etcd go.etcd.io/etcd/server/v3
build kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver
build kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager
build kubectl kubernetes k8s.io/kubernetes/cmd/kubectl
echo "cluster: ready in $target"
