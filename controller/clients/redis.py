"""Redis: one client with short limits, and our own errors.

redis-py's defaults would block a tick for a minute on a server that hangs. Here a command is tried once, and once more
at once when its connection turns out to be dead (Redis was restarted); a timeout is never retried. Every write
is one idempotent script, so sending it twice is harmless.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from controller.errors import ConfigError, Denied, DependencyError, Rejected, TimedOut, Unreachable
from controller.settings import Settings, read_secret

SYSTEM = "Redis"
MAX_CONNECTIONS = 16
_NOT_SERVING = ("READONLY", "LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY")
_NOT_ALLOWED = ("NOAUTH", "WRONGPASS", "NOPERM")
_DENIALS = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError, ConfigError)
_OUTAGES = (exceptions.ConnectionError, exceptions.ReadOnlyError, exceptions.OutOfMemoryError, OSError)


class PasswordFile(CredentialProvider):
    """User and password for each new connection; the file is read anew, so that it may rotate."""

    def __init__(self, path: str, username: str) -> None:
        self._path = path
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The user, if there is one, and the password."""
        password = read_secret(self._path, "redis_password_file")
        return (self._username, password) if self._username else (password,)


def connect(settings: Settings, *, text: bool = True) -> redis.Redis:
    """A client; nothing is sent yet. Replies are text (or bytes), in RESP3's shapes. Safe to share between threads.

    Raises:
        ConfigError: the password file or the CA file cannot be read, or the URL has an option that redis-py does not know.
    """
    timeout = settings.redis_timeout_seconds
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "max_connections": MAX_CONNECTIONS,
        "decode_responses": text,
        "legacy_responses": False,
        "health_check_interval": 0,  # a health check nests its own retries into those of the command
        "retry": Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        "client_name": "trimtab-controller",
    }
    url = settings.redis_url
    if settings.redis_password_file:
        read_secret(settings.redis_password_file, "redis_password_file")
        url, username = _without_credentials(url)
        options["credential_provider"] = PasswordFile(settings.redis_password_file, username)
    if settings.redis_ca_file:
        if urlsplit(url).scheme != "rediss":
            raise ConfigError("--redis-ca-file: only a rediss:// URL uses TLS")
        options["ssl_ca_certs"] = _certificates(settings.redis_ca_file)
    try:
        return _client(url, options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--redis-url: {error}") from error


def _client(url: str, options: dict[str, Any]) -> redis.Redis:
    """The one place that knows which kind of Redis this is: a cluster or a Sentinel would be built here."""
    pool = redis.BlockingConnectionPool.from_url(url, timeout=options["socket_timeout"], **options)
    return redis.Redis.from_pool(pool)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns redis-py's errors into those of controller.errors.

    Raises:
        DependencyError: one of its kinds, with Redis' own words and no credentials.
    """
    try:
        yield
    except (exceptions.RedisError, ConfigError, OSError) as error:
        raise translate(error) from error


def translate(error: Exception) -> DependencyError:
    """Our error for one of redis-py's, or of a password file that can no longer be read."""
    words = " ".join(str(error).split()) or type(error).__name__
    if words.startswith("HELLO must be called"):  # what it answers to a client without credentials
        return Denied(SYSTEM, "a password is required; give --redis-password-file")
    code = words.partition(" ")[0].rstrip(":,.")
    if words.startswith("Error running script"):  # Redis before 7 has the code of what failed within
        code = next((word[1:] for word in words.split() if word.startswith("-") and word[1:].isupper()), code)
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return TimedOut(SYSTEM, "no answer in time")
    if isinstance(error, _DENIALS) or code in _NOT_ALLOWED:
        return Denied(SYSTEM, words)
    if isinstance(error, _OUTAGES) or code in _NOT_SERVING:
        return Unreachable(SYSTEM, words)
    return Rejected(SYSTEM, words)


def _without_credentials(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl(), unquote(parts.username or "")


def _certificates(path: str) -> str:
    try:
        if not Path(path).is_file():
            raise ConfigError(f"--redis-ca-file {path}: no such file")
        ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is one
        raise ConfigError(f"--redis-ca-file {path}: no certificates in PEM form") from error
    return path
