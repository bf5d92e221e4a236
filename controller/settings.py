"""Process settings: where the other systems are and how this process behaves. What to do is in the policies.

Each setting is a flag and a TRIMTAB_* variable; the flag wins. Secrets are given as files, so that they rotate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from controller.errors import ConfigError

# Kubernetes puts such variables into every pod for each Service, one named `trimtab` among them.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_|$)")


def setting(default: Any, doc: str, **choices: Any) -> Any:
    """A field with its documentation, which ends up in `--help` and in docs/settings.md."""
    return field(default=default, metadata={"doc": doc, **choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that one process needs to know besides its policies. Times in seconds."""

    policies: str = setting("policies", "Folder with the policy files.")
    prometheus_url: str = setting("http://localhost:9090", "Prometheus, or anything that speaks its query API.")
    prometheus_token_file: str = setting("", "File with a bearer token; read anew each tick.")
    prometheus_username: str = setting("", "User for basic authentication.")
    prometheus_password_file: str = setting("", "File with the password for basic authentication; read anew each tick.")
    prometheus_ca_file: str = setting("", "CA certificates to trust for Prometheus instead of the system's.")
    prometheus_cert_file: str = setting("", "Client certificate for Prometheus.")
    prometheus_key_file: str = setting("", "Key of the client certificate.")
    prometheus_timeout_seconds: float = setting(3.0, "Limit for one query.")
    redis_url: str = setting("redis://localhost:6379/0", "Redis; rediss:// for TLS.")
    redis_password_file: str = setting("", "File with the Redis password.")
    redis_ca_file: str = setting("", "CA certificates to trust for Redis instead of the system's.")
    redis_timeout_seconds: float = setting(1.0, "Limit for one Redis command.")
    kubernetes: str = setting(
        "auto", "Where the API server is found.", choices=("auto", "in-cluster", "kubeconfig", "off")
    )
    kubeconfig: str = setting("", "Kubeconfig file; default: the usual places.")
    kubernetes_timeout_seconds: float = setting(3.0, "Limit for one Kubernetes call.")
    leader_election: bool = setting(False, "Only the holder of the Lease acts; for more than one replica.")
    lease_namespace: str = setting("", "Namespace of the Lease; default: this pod's own.")
    identity: str = setting("", "This replica's name in the Lease; default: the pod's or the host's name.")
    listen: str = setting("0.0.0.0:8080", "Address of /metrics, /healthz and /readyz.")
    journal: str = setting("", "Folder for decision records; default: none are kept on disk.")
    log_format: str = setting("auto", "How to log.", choices=("auto", "json", "console"))
    log_level: str = setting("info", "Least severe record to log.", choices=("debug", "info", "warning", "error"))

    @classmethod
    def load(cls, flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from flags (None means not given) over TRIMTAB_* variables over defaults.

        Raises:
            ConfigError: a value has the wrong form; the message names the flag and the variable.
        """
        known = {f.name for f in fields(cls)}
        for name in environ:
            ours = name.startswith("TRIMTAB_") and not _SERVICE_LINK.search(name)
            if ours and name.removeprefix("TRIMTAB_").lower() not in known:
                raise ConfigError(f"{name}: no such setting; `trimtab run --help` lists them")
        values: dict[str, Any] = {}
        for f in fields(cls):
            given = flags.get(f.name)
            raw = given if given is not None else environ.get(variable(f.name))
            if raw is not None:
                values[f.name] = _parse(f.name, raw, f.default, f.metadata.get("choices"))
        return cls(**values)

    def redacted(self) -> dict[str, Any]:
        """The settings as they may be printed: URLs lose their passwords."""
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: redact_url(value) if name.endswith("_url") else value for name, value in shown.items()}

    def listen_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"TRIMTAB_{name.upper()}"


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return f"--{name.replace('_', '-')}"


def redact_url(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def read_secret(path: str, setting_name: str) -> str:
    """The text of a secret file without its trailing newline.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{flag(setting_name)} {path}: {reason}") from error


def _parse(name: str, raw: Any, default: Any, choices: tuple[str, ...] | None) -> Any:
    where = f"{flag(name)} ({variable(name)})"
    if isinstance(default, bool):
        return _parse_bool(where, raw)
    if isinstance(default, float):
        return _parse_seconds(where, raw)
    text = str(raw)
    if choices and text not in choices:
        raise ConfigError(f"{where}: {text!r} is none of {', '.join(choices)}")
    if name.endswith("_url"):
        _check_url(where, text, ("redis", "rediss", "unix") if name.startswith("redis") else ("http", "https"))
    if name == "listen":
        _check_listen(where, text)
    return text


def _parse_bool(where: str, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    value = words.get(str(raw).lower())
    if value is None:
        raise ConfigError(f"{where}: {raw!r} is neither true nor false")
    return value


def _parse_seconds(where: str, raw: Any) -> float:
    try:
        seconds = float(raw)
    except ValueError:
        raise ConfigError(f"{where}: {raw!r} is no number of seconds") from None
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{where}: {raw} is not above zero and finite")
    return seconds


def _check_url(where: str, text: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(text)
        good = parts.scheme in schemes and bool(parts.hostname or parts.path) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{where}: {redact_url(text)!r} is no {' or '.join(schemes)} URL")


def _check_listen(where: str, text: str) -> None:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or not 0 <= int(port) <= 65535 or not host:
        raise ConfigError(f"{where}: {text!r} is no HOST:PORT")
