"""The store: reload on change, through a ConfigMap's links too; the last good set survives anything."""

from pathlib import Path

import pytest

from controller.errors import PolicyError
from controller.policy.store import PolicyStore

POLICY = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {{name: {name}, namespace: models}}
spec:
  instances: {{selector: {{service: {name}}}}}
  signals: {{preset: fastapi}}
"""


def names(result):
    return [policy.metadata.name for policy in result.policies]


def write(folder: Path, **contents: str):
    for stem, text in contents.items():
        (folder / f"{stem}.yaml").write_text(text)


def publish(mount: Path, version: str, **contents: str):
    """What the kubelet does: a new folder, then `..data` renamed onto it in one step."""
    real = mount / f"..{version}"
    real.mkdir()
    write(real, **contents)
    (mount / "..data_tmp").symlink_to(real.name)
    (mount / "..data_tmp").rename(mount / "..data")
    for stem in contents:
        link = mount / f"{stem}.yaml"
        if not link.is_symlink():
            link.symlink_to(f"..data/{stem}.yaml")


def test_the_first_load_of_a_bad_set_raises(tmp_path):
    write(tmp_path, a="apiVersion: trimtab/v1\n")
    with pytest.raises(PolicyError):
        PolicyStore(tmp_path).load()


def test_a_change_is_loaded_once(tmp_path):
    write(tmp_path, a=POLICY.format(name="one"))
    store = PolicyStore(tmp_path)
    first = store.load()
    assert (names(first), first.changed, first.faults) == (["one"], True, ())
    second = store.refresh()
    assert (names(second), second.changed, second.hash) == (["one"], False, first.hash)
    write(tmp_path, b=POLICY.format(name="two"))
    third = store.refresh()
    assert (names(third), third.changed) == (["one", "two"], True)
    assert third.hash != first.hash
    assert store.policies == third.policies


def test_the_last_good_set_is_kept_and_the_fault_stays_known(tmp_path):
    write(tmp_path, a=POLICY.format(name="one"))
    store = PolicyStore(tmp_path)
    good = store.load()
    write(tmp_path, a="rubbish: [")
    bad = store.refresh()
    assert (names(bad), bad.changed, bad.hash) == (["one"], True, good.hash)
    assert len(bad.faults) == 1
    again = store.refresh()
    assert (names(again), again.changed, again.faults) == (["one"], False, bad.faults)
    write(tmp_path, a=POLICY.format(name="one"))
    healed = store.refresh()
    assert (names(healed), healed.changed, healed.faults, healed.hash) == (["one"], True, (), good.hash)


def test_one_bad_file_holds_back_the_whole_new_set(tmp_path):
    write(tmp_path, a=POLICY.format(name="one"))
    store = PolicyStore(tmp_path)
    store.load()
    write(tmp_path, a=POLICY.format(name="changed"), b="kind: x")
    assert names(store.refresh()) == ["one"]


def test_a_folder_that_vanishes_is_a_fault_and_comes_back(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    write(folder, a=POLICY.format(name="one"))
    store = PolicyStore(folder)
    store.load()
    folder.rename(tmp_path / "away")
    gone = store.refresh()
    assert names(gone) == ["one"]
    assert "No such file or directory" in str(gone.faults[0])
    (tmp_path / "away").rename(folder)
    back = store.refresh()
    assert (names(back), back.faults) == (["one"], ())


def test_a_swap_of_a_config_map_is_seen(tmp_path):
    publish(tmp_path, "2024_1", a=POLICY.format(name="one"))
    store = PolicyStore(tmp_path)
    first = store.load()
    assert names(first) == ["one"]
    assert first.loaded[0].file == str(tmp_path / "a.yaml")
    publish(tmp_path, "2024_2", a=POLICY.format(name="two"), b=POLICY.format(name="three"))
    second = store.refresh()
    assert (names(second), second.changed) == (["two", "three"], True)
    publish(tmp_path, "2024_3", a="rubbish")
    assert names(store.refresh()) == ["two", "three"]
    publish(tmp_path, "2024_4", a=POLICY.format(name="four"))
    assert names(store.refresh()) == ["four"]


def test_a_rename_alone_is_a_change(tmp_path):
    write(tmp_path, a=POLICY.format(name="one"))
    store = PolicyStore(tmp_path)
    store.load()
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    result = store.refresh()
    assert result.changed
    assert result.loaded[0].file == str(tmp_path / "b.yaml")
