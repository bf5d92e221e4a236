"""Where the control plane's programs are looked for, and what is said when they are not there."""

import pytest

from controller.lab.cluster.binaries import CONTROLLERS, find_binaries

WHOLE = ("etcd", "kube-apiserver", "kubectl", CONTROLLERS)


def fill(folder, programs=WHOLE):
    folder.mkdir(parents=True)
    for program in programs:
        (folder / program).touch(mode=0o755)
    return folder


@pytest.fixture
def source(tmp_path):
    """A hack/cluster folder with go.mod files."""
    for name, line in (
        ("kubernetes", "require k8s.io/kubernetes v1.36.2"),
        ("etcd", "require (\n\tgo.etcd.io/etcd/server/v3 v3.6.8\n)"),
    ):
        (tmp_path / "hack" / name).mkdir(parents=True)
        (tmp_path / "hack" / name / "go.mod").write_text(f"module x\n\n{line}\n")
    return tmp_path / "hack"


def cache(tmp_path, key="kubernetes-v1.36.2-etcd-v3.6.8"):
    return tmp_path / "cache" / "trimtab" / "cluster" / key


def look(tmp_path, source, **environ):
    return find_binaries({"XDG_CACHE_HOME": str(tmp_path / "cache"), **environ}, source)


def test_the_cache_folder_of_these_versions(tmp_path, source):
    fill(cache(tmp_path, "kubernetes-v1.99.0-etcd-v3.6.8"))
    fill(cache(tmp_path))
    found = look(tmp_path, source)
    assert (found.folder, found.has_controllers, found.note) == (cache(tmp_path), True, "")


def test_the_home_folder_holds_the_cache_by_default(tmp_path, source):
    folder = fill(tmp_path / ".cache" / "trimtab" / "cluster" / "kubernetes-v1.36.2-etcd-v3.6.8")
    assert find_binaries({"HOME": str(tmp_path)}, source).folder == folder


def test_an_incomplete_cache_does_not_count(tmp_path, source):
    fill(cache(tmp_path), WHOLE[:3])
    assert look(tmp_path, source) == "no kube-apiserver found; run `make cluster`"


def test_without_sources_the_newest_complete_folder(tmp_path):
    for version in ("v1.9.0", "v1.36.2"):
        fill(cache(tmp_path, f"kubernetes-{version}-etcd-v3.6.8"))
    fill(cache(tmp_path, "kubernetes-v1.40.0-etcd-v3.6.8"), WHOLE[:2])
    assert look(tmp_path, tmp_path / "nowhere").folder.name == "kubernetes-v1.36.2-etcd-v3.6.8"


def test_envtest_assets_come_first_and_say_what_they_lack(tmp_path, source):
    fill(cache(tmp_path))
    assets = fill(tmp_path / "assets", WHOLE[:3])
    found = look(tmp_path, source, KUBEBUILDER_ASSETS=str(assets))
    assert (found.folder, found.has_controllers) == (assets, False)
    assert "no kube-controller-manager" in found.note
    assert "make cluster" in found.note


def test_wrong_envtest_assets_are_an_answer_not_a_fallback(tmp_path, source):
    fill(cache(tmp_path))
    assets = fill(tmp_path / "assets", ["etcd"])
    reason = look(tmp_path, source, KUBEBUILDER_ASSETS=str(assets))
    assert reason.startswith(f"KUBEBUILDER_ASSETS={assets} has no kube-apiserver, kubectl;")
    assert "\n" not in reason
