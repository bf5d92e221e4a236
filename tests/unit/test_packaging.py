"""What is shipped: the image's recipe, the two locks, and the wheel."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from controller.policy.load import validate_paths

ROOT = Path(__file__).parents[2]
OFFLINE = re.compile(r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Connection refused")


def instructions():
    """The Dockerfile as (stage, word, rest), continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found, stage = [], -1
    for line in lines:
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append((stage, word, " ".join(rest.split())))
    return found


def of(word, stage=None):
    return [rest for at, w, rest in instructions() if w == word and stage in (None, at)]


def ignored(path):
    """Whether .dockerignore keeps a path of the tree out of the build."""
    patterns = [line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines() if line.strip()]
    parts = path.split("/")
    prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(fnmatch(prefix, pattern.removeprefix("**/")) for pattern in patterns for prefix in [*prefixes, *parts])


def shipped():
    """Every file of the tree below what the builder copies."""
    tops = [source for rest in of("COPY", 0) for source in rest.split()[:-1]]
    files = subprocess.run(["git", "ls-files", *tops], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tops, files.split()


class TestDockerfile:
    def test_has_two_stages_on_the_same_interpreter(self):
        assert [rest.split()[0] for rest in of("FROM")] == ["python:3.13-slim"] * 2
        assert "3.13" in (ROOT / "pyproject.toml").read_text()

    def test_runs_as_a_user_that_is_a_number_and_not_root(self):
        (user,) = of("USER", 1)
        assert all(part.isdigit() and int(part) > 0 for part in user.split(":"))
        manifest = yaml.safe_load((ROOT / "manifests" / "base" / "deployment.yaml").read_text())
        context = manifest["spec"]["template"]["spec"]["securityContext"]
        assert user == f"{context['runAsUser']}:{context['runAsGroup']}"

    def test_needs_no_shell_when_it_runs(self):
        (entry,), (command,) = of("ENTRYPOINT", 1), of("CMD", 1)
        assert json.loads(entry) == ["/opt/trimtab/bin/python", "-m", "controller"]  # exec form, or this is no JSON
        assert json.loads(command) == ["run"]
        assert not of("RUN", 1)
        manifest = yaml.safe_load((ROOT / "manifests" / "base" / "deployment.yaml").read_text())
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        assert "command" not in container
        assert not [probe for probe in container if probe.endswith("Probe") and "exec" in container[probe]]

    def test_copies_what_exists_and_is_let_through(self):
        tops, files = shipped()
        assert {"constraints-controller.txt", "pyproject.toml", "controller", "trimtab"} <= set(tops)
        for top in tops:
            assert (ROOT / top).exists()
        assert len(files) > 100
        assert not [file for file in files if ignored(file)]

    def test_leaves_out_what_is_not_needed(self):
        assert all(
            ignored(path) for path in (".git/HEAD", ".venv/bin/python", "controller/__pycache__/x.pyc", "tests/a.py")
        )

    def test_takes_packages_by_hash_and_ours_without_resolving(self):
        installs = [
            c.strip() for rest in of("RUN", 0) for c in rest.split("&&") if "pip install" in c or "pip wheel" in c
        ]
        for command in installs:
            assert "--require-hashes" in command or "--no-deps" in command or "hatchling" in command, command


def pins(name):
    """Package -> (version and marker, hashes) of a constraints file."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        match = re.match(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", line)
        if match:
            found[match[1]] = (match[2], frozenset(re.findall(r"--hash=(\S+)", line)))
    return found


def test_the_image_has_the_versions_that_the_tests_ran_with():
    image, everything = pins("constraints-controller.txt"), pins("constraints.txt")
    assert len(image) > 20
    assert image.items() <= everything.items()
    assert all(hashes for _, hashes in image.values())
    assert not {"pytest", "ruff", "mypy", "rich", "hatchling"} & image.keys()


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-controller.txt"])
def test_the_locks_name_no_index(name):
    assert not re.search(r"https?://|^--", (ROOT / name).read_text(), re.MULTILINE)


def test_the_example_policies_are_valid():
    assert validate_paths([ROOT / "policies"]) == ()


def test_every_example_policy_goes_into_the_configmap():
    listed = yaml.safe_load((ROOT / "policies" / "kustomization.yaml").read_text())["configMapGenerator"][0]["files"]
    assert sorted(listed) == sorted(p.name for p in (ROOT / "policies").glob("*.yaml") if p.stem != "kustomization")


def run(*command, cwd, check=True):
    """Output of a command, run with nothing of this environment but what finds packages."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("TRIMTAB_", "PYTHON", "VIRTUAL"))
    }
    environ |= {"NO_COLOR": "1", "PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False, env=environ)
    if check and done.returncode:
        if OFFLINE.search(done.stdout + done.stderr):
            pytest.skip("packages cannot be had: the package index cannot be reached")
        raise AssertionError(f"{shlex.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


@pytest.mark.integration
def test_the_recipe_of_the_image_builds_and_a_bare_install_is_the_client_library_alone(tmp_path):
    tree, opt, wheels = tmp_path / "src", tmp_path / "opt", tmp_path / "wheels"
    _, files = shipped()
    for file in files:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, tree / file)
    for rest in of("RUN", 0):
        # The cache stays on: this is about the recipe, not about the size of a layer.
        moved = rest.replace("/opt/", f"{opt}/").replace("/wheels", str(wheels)).replace("--no-cache-dir ", "")
        run("sh", "-ec", re.sub(r"\bpython -m venv", f"{sys.executable} -m venv", moved), cwd=tree)

    python = str(opt / "trimtab" / "bin" / "python")
    assert run(python, "-m", "controller", "version", cwd=tmp_path).stdout.startswith("trimtab ")
    assert run(str(opt / "trimtab" / "bin" / "trimtab"), "validate", str(ROOT / "policies"), cwd=tmp_path).stdout == ""
    once = run(python, "-m", "controller", "run", "--once", "--kubernetes", "off", cwd=ROOT, check=False)
    assert "Traceback" not in once.stderr + once.stdout
    assert run(python, "-m", "pip", "check", cwd=tmp_path).stdout.startswith("No broken requirements")

    (wheel,) = wheels.glob("trimtab-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {f for f in files if f.endswith((".lua", "py.typed")) or fnmatch(f, "controller/policy/presets/*.yaml")}
    assert data
    assert data <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"controller", "trimtab"}

    bare = tmp_path / "bare"
    run(sys.executable, "-m", "venv", "--without-pip", str(bare), cwd=tmp_path)
    pip = (python, "-m", "pip", "--python", str(bare / "bin" / "python"))
    run(*pip, "install", "--quiet", str(wheel), cwd=tmp_path)
    listed = json.loads(run(*pip, "list", "--format=json", cwd=tmp_path).stdout)
    python = str(bare / "bin" / "python")
    assert {p["name"] for p in listed} - {"async-timeout"} == {"trimtab", "redis"}  # it goes with old Pythons
    run(python, "-W", "error", "-c", "import trimtab, trimtab.contract", cwd=tmp_path)
    assert run(python, "-m", "controller", "version", cwd=tmp_path).stdout.startswith("trimtab ")
    for command in (("run",), ("validate", str(ROOT / "policies")), ("plan",), ("status",), ("demo",)):
        refused = run(python, "-m", "controller", *command, cwd=ROOT, check=False)
        assert refused.returncode == 2, refused
        (line,) = refused.stderr.splitlines()
        assert re.fullmatch(r"trimtab: .* needs \w+: pip install 'trimtab\[controller(,demo)?\]'", line), line
