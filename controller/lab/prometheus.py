"""A real Prometheus on a free loopback port, whose targets change at run time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from controller.lab.ports import free_port
from controller.lab.process import LabError, Process, http_ready


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to scrape: `host:port`, and the labels that its series get."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


class PrometheusServer:
    """A running Prometheus. `url` is where it listens, the same after a restart; also a context manager."""

    def __init__(self, folder: Path, command: Sequence[str], host: str, port: int, scheme: str) -> None:
        self.folder = folder
        self.host = host
        self.port = port
        self.url = f"{scheme}://{host}:{port}"
        self._command = tuple(command)
        self.process: Process = self._start()

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        targets: Sequence[Target] = (),
        scrape_interval: str = "1s",
        metrics_path: str = "/metrics",
        scrape_config: Mapping[str, Any] | None = None,
        web_config: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        program: str | None = None,
        retention: str = "2h",
    ) -> PrometheusServer:
        """Start Prometheus with its files in `folder`, and wait until it answers queries.

        `targets` are scraped at first; see `set_targets`. `scrape_config` holds more fields of the scrape configuration,
        such as `metric_relabel_configs`; `web_config` the web configuration file's content, such as `tls_server_config`
        and `basic_auth_users`. The port is a free one unless given. `retention` is for how long samples are kept, as
        Prometheus writes times.

        Raises:
            LabError: there is no `prometheus`, or it did not start.
        """
        program = program or shutil.which("prometheus")
        if program is None:
            raise LabError("prometheus is not installed (Debian, Ubuntu: apt-get install prometheus)")
        port = port or free_port(host)
        folder.mkdir(parents=True, exist_ok=True)
        scrape = {
            "job_name": "instances",
            "metrics_path": metrics_path,
            "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
            **(scrape_config or {}),
        }
        timing = {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval}
        config = {"global": timing, "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        write_targets(folder / "targets.json", targets)
        command = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={retention}",
            f"--web.listen-address={host}:{port}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]
        if web_config is not None:
            path = folder / "web.yml"
            path.touch(mode=0o600)
            path.write_text(yaml.safe_dump(dict(web_config)), encoding="utf-8")
            command.append(f"--web.config.file={path}")
        secure = web_config is not None and "tls_server_config" in web_config
        return cls(folder, command, host, port, "https" if secure else "http")

    def set_targets(self, targets: Sequence[Target]) -> None:
        """Replace what is scraped; Prometheus takes it up every 5 s, and marks series of lost targets stale."""
        write_targets(self.folder / "targets.json", targets)

    def restart(self) -> None:
        """Start again on the same port and data, after a `stop` or a `process.kill()`."""
        self.process.stop()
        self.process = self._start()

    def stop(self) -> None:
        """Stop it; its files stay."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> Process:
        return Process.start(
            "prometheus",
            self._command,
            log=self.folder / "prometheus.log",
            folder=self.folder,
            env={**os.environ, "GOGC": "50", "GOMAXPROCS": "2"},
            # 401: with basic authentication even the health page asks who we are.
            ready=http_ready(f"{self.url}/-/ready", statuses=(200, 401)),
        )


def write_targets(path: Path, targets: Sequence[Target]) -> None:
    """Write a file-based service discovery file, whole or not at all."""
    groups = [{"targets": [target.address], "labels": dict(target.labels)} for target in targets]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(groups), encoding="utf-8")
    part.replace(path)
