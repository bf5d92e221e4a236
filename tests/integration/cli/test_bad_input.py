"""What a user gets wrong before the daemon runs: one line per fault on stderr, exit 2 (or 1 for a taken port)."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from support.daemon import PROGRAM, environment

from controller.policy.jsonschema import policy_schema_text

pytestmark = pytest.mark.integration

GOOD = {
    "apiVersion": "trimtab/v1",
    "kind": "LoadPolicy",
    "metadata": {"name": "chat", "namespace": "models"},
    "spec": {"instances": {"selector": {"service": "chat"}}, "signals": {"preset": "fastapi"}, "routing": {}},
}
TEN_FAULTS = """\
apiVersion: trimtab/v2
kind: Policy
metadata: {name: UPPER, namespace: models}
spec:
  interval: 15
  mode: maybe
  instances: {selector: {service: chat}, key: "a-b"}
  signals: {preset: fastappi}
  slo: {latency: fast, quantile: 2}
  routing: {floor: 300%}
  concurrency: {perInstance: 0}
  unknown: true
"""


def scaling(name, hpa="shared"):
    spec = {**GOOD["spec"], "scaling": {"hpa": hpa, "target": {"name": name}}}
    return {**GOOD, "metadata": {"name": name, "namespace": "models"}, "spec": spec}


def lines(done):
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr.splitlines()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "policies"
    made.mkdir()
    return made


@pytest.fixture
def run(command, folder):
    def once(*flags, policies=folder, **environ):
        return command("run", "--kubernetes=off", "--once", f"--policies={policies}", *flags, **environ)

    return once


def test_an_empty_folder_is_one_line(folder, run):
    done = run()
    (line,) = lines(done)
    assert done.returncode == 2
    assert str(folder) in line


def test_a_missing_folder_is_one_line(tmp_path, run):
    done = run(policies=tmp_path / "gone")
    (line,) = lines(done)
    assert done.returncode == 2
    assert "gone" in line


def test_a_dangling_link_is_one_line(folder, run):
    (folder / "gone.yaml").symlink_to(folder / "nowhere")
    done = run()
    (line,) = lines(done)
    assert (done.returncode, "gone.yaml" in line) == (2, True)


def test_a_file_that_may_not_be_read_is_one_line(folder, command):
    (folder / "chat.yaml").write_text(yaml.safe_dump(GOOD))
    if os.geteuid() == 0:  # may read everything, but for this
        (folder / "secret.yaml").symlink_to("/proc/self/mem")
    else:
        (folder / "secret.yaml").write_text("")
        (folder / "secret.yaml").chmod(0)
    done = command("validate", folder)
    (line,) = lines(done)
    assert (done.returncode, "secret.yaml" in line) == (2, True)


@pytest.mark.parametrize("how", ["validate", "run"])
def test_ten_faults_of_one_file_come_in_one_pass(folder, command, run, how):
    (folder / "bad.yaml").write_text(TEN_FAULTS)
    done = command("validate", folder) if how == "validate" else run()
    found = lines(done)
    assert done.returncode == 2
    assert len(found) >= 10
    assert all("bad.yaml:" in line for line in found)
    for field in (
        "apiVersion",
        "kind",
        "metadata.name",
        "spec.interval",
        "spec.mode",
        "spec.slo.latency",
        "spec.unknown",
    ):
        assert any(f": {field}: " in line for line in found), field


def test_two_policies_on_one_hpa_are_named_both(folder, run):
    for name in ("chat", "image"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(scaling(name)))
    done = run()
    found = lines(done)
    assert done.returncode == 2
    assert any("shared" in line and "chat" in line for line in found)


def test_an_unknown_preset_is_told_with_what_was_meant(folder, run):
    policy = {**GOOD, "spec": {**GOOD["spec"], "signals": {"preset": "fastappi"}}}
    (folder / "chat.yaml").write_text(yaml.safe_dump(policy))
    done = run()
    (line,) = lines(done)
    assert (done.returncode, "fastappi" in line, "fastapi" in line) == (2, True, True)


def test_faults_as_json_are_json(folder, command):
    (folder / "bad.yaml").write_text(TEN_FAULTS)
    done = command("validate", "-o", "json", folder)
    assert done.returncode == 2
    assert len(json.loads(done.stdout)["faults"]) >= 10


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param(["--prometheus-url=ftp://x"], "--prometheus-url", id="prometheus-url"),
        pytest.param(["--redis-url=http://x"], "--redis-url", id="redis-url"),
        pytest.param(["--listen=8080"], "--listen", id="listen"),
        pytest.param(["--redis-timeout-seconds=soon"], "--redis-timeout-seconds", id="seconds"),
        pytest.param(["--log-format=xml"], "--log-format", id="choice"),
        pytest.param(["--no-such-flag"], "--no-such-flag", id="unknown-flag"),
        pytest.param(["--redis-password-file=/nonexistent"], "--redis-password-file", id="password-file"),
        pytest.param(["--kubernetes=kubeconfig", "--kubeconfig=/nonexistent"], "--kubeconfig", id="kubeconfig"),
        pytest.param(["--kubernetes=in-cluster"], "in-cluster", id="in-cluster"),
    ],
)
def test_a_wrong_flag_is_named(folder, run, flags, says):
    (folder / "chat.yaml").write_text(yaml.safe_dump(GOOD))
    done = run(*flags)
    assert done.returncode == 2
    assert says in lines(done)[-1]
    assert len(lines(done)) == 1 or lines(done)[0].startswith("usage:")


def test_a_wrong_variable_is_named(folder, run):
    (folder / "chat.yaml").write_text(yaml.safe_dump(GOOD))
    done = run(TRIMTAB_REDIS_URI="redis://x")
    (line,) = lines(done)
    assert (done.returncode, "TRIMTAB_REDIS_URI" in line) == (2, True)


def test_no_command_is_wrong_usage(command):
    done = command()
    assert (done.returncode, lines(done)[0].startswith("usage:")) == (2, True)


def test_a_taken_port_is_one_line_and_exit_1(folder, command):
    (folder / "chat.yaml").write_text(yaml.safe_dump(GOOD))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = command("run", "--kubernetes=off", f"--policies={folder}", f"--listen={address}")
    (line,) = lines(done)
    assert (done.returncode, address in line) == (1, True)


@pytest.mark.parametrize("what", ["run --once --dry-run --log-format=json", "plan", "status"])
def test_systems_that_are_all_away_are_one_line_each_and_exit_1(folder, command, what):
    (folder / "chat.yaml").write_text(yaml.safe_dump(GOOD))
    away = ["--prometheus-url=http://127.0.0.1:1", "--redis-url=redis://127.0.0.1:1"]
    done = command(*what.split(), "--kubernetes=off", f"--policies={folder}", *away)
    assert done.returncode == 1
    told = (
        lines(done)
        if "run" not in what
        else [json.loads(x)["message"] for x in done.stdout.splitlines() if '"problem"' in x]
    )
    assert sum("Prometheus: " in line for line in told) == 1
    assert sum("Redis: " in line for line in told) == 1


def test_a_reader_that_goes_away_is_no_error():
    with subprocess.Popen(
        [*PROGRAM, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, b"")


def test_the_example_policies_are_valid(command):
    done = command("validate", "policies")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_is_the_file_that_editors_read(command):
    done = command("schema")
    assert done.returncode == 0
    assert done.stdout == policy_schema_text()
    assert done.stdout == Path("policies/policy.schema.json").read_text(encoding="utf-8")


def test_version(command):
    done = command("version")
    assert (done.returncode, done.stdout.startswith("trimtab ")) == (0, True)
