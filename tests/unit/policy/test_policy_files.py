"""Which files are read, and what the system says when one cannot be."""

import os

import pytest

from controller.errors import PolicyError
from controller.policy.load import load_policies, validate_paths

MINIMAL = """\
apiVersion: trimtab/v1
kind: LoadPolicy
metadata: {name: a, namespace: models}
spec:
  instances: {selector: {service: a}}
  signals: {preset: fastapi}
"""


def test_folders(tmp_path):
    with pytest.raises(PolicyError, match=r"No such file or directory"):
        load_policies(tmp_path / "missing")
    with pytest.raises(PolicyError, match=r"no policy files \(\*\.yaml, \*\.yml\) in "):
        load_policies(tmp_path)
    (tmp_path / "b.yml").write_text(MINIMAL.replace("name: a", "name: b"))
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / ".hidden.yaml").write_text("[")
    (tmp_path / "kustomization.yaml").write_text("kind: Kustomization")
    (tmp_path / "schema.json").write_text("{")
    (tmp_path / "folder.yaml").mkdir()
    assert [item.policy.key for item in load_policies(tmp_path)] == ["models/a", "models/b"]
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "z.yaml").write_text("[")
    with pytest.raises(PolicyError) as raised:
        load_policies(tmp_path)
    assert [str(fault).removeprefix(f"{tmp_path}/") for fault in raised.value.faults][:3] == [
        "circle.yaml:1: cannot be read: Too many levels of symbolic links",
        "dangling.yaml:1: cannot be read: No such file or directory",
        "pipe.yaml:1: not a regular file",
    ]
    assert len(raised.value.faults) == 4


def test_validate_takes_files_and_folders_as_one_set(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.txt"
    one.write_text(MINIMAL)
    two.write_text(MINIMAL)
    assert validate_paths([one, tmp_path]) == ()
    (fault,) = validate_paths([one, two])
    assert "two policies have one name" in fault.message
    assert "File name too long" in validate_paths([tmp_path / ("x" * 5000)])[0].message
    assert "No such file" in validate_paths([tmp_path / "nothing.yaml"])[0].message


def test_an_error_reads_as_one_line_per_fault(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(PolicyError) as raised:
        load_policies(tmp_path)
    assert str(raised.value).splitlines() == [str(fault) for fault in raised.value.faults]
