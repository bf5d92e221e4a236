import socket
import time
from pathlib import Path

import pytest
import redis
from redis_server import redis_server

from controller.clients.redis import connect, redis_errors, translate
from controller.errors import ConfigError, Denied, Rejected, TimedOut, Unreachable
from controller.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def client_of():
    clients = []

    def make(**settings):
        clients.append(connect(Settings(**settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def attempt(client):
    with redis_errors():
        return client.get("key")


def test_a_server_that_never_answers_costs_at_most_twice_the_limit(client_of):
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen(20)
        client = client_of(redis_url=f"redis://127.0.0.1:{hung.getsockname()[1]}/0", redis_timeout_seconds=0.5)
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(TimedOut):
                attempt(client)
            assert time.monotonic() - started <= 1.0


def test_a_server_that_hangs_later_is_not_asked_again(tmp_path, client_of):
    with redis_server(tmp_path) as (port, process):
        client = client_of(redis_url=f"redis://127.0.0.1:{port}/0", redis_timeout_seconds=0.5)
        assert attempt(client) is None
        process.send_signal(19)  # SIGSTOP
        started = time.monotonic()
        with pytest.raises(TimedOut):
            attempt(client)
        assert time.monotonic() - started <= 1.0
        process.send_signal(18)  # SIGCONT
        assert attempt(client) is None


def test_a_restarted_server_is_found_again_at_once(tmp_path, client_of):
    with redis_server(tmp_path) as (port, _):
        client = client_of(redis_url=f"redis://127.0.0.1:{port}/0")
        assert attempt(client) is None
    with pytest.raises(Unreachable, match="refused"):
        attempt(client)
    with redis_server(tmp_path, port=port):
        assert attempt(client) is None


def test_a_password_file_that_rotates_is_read_for_each_connection(tmp_path, client_of):
    secret = tmp_path / "password"
    secret.write_text("first\n")
    with redis_server(tmp_path, "--requirepass", "first") as (port, _):
        client = client_of(redis_url=f"redis://127.0.0.1:{port}/0", redis_password_file=str(secret))
        assert attempt(client) is None
        client.config_set("requirepass", "second")
        secret.write_text("second\n")
        client.connection_pool.disconnect()
        assert attempt(client) is None
        secret.write_text("wrong\n")
        client.connection_pool.disconnect()
        with pytest.raises(Denied, match=r"WRONGPASS|invalid") as raised:
            attempt(client)
        assert "wrong" not in str(raised.value).replace("WRONGPASS", "")
        secret.unlink()
        client.connection_pool.disconnect()
        with pytest.raises(Denied, match="--redis-password-file"):
            attempt(client)


def test_no_password_is_denied(tmp_path, client_of):
    with redis_server(tmp_path, "--requirepass", "x") as (port, _), pytest.raises(Denied):
        attempt(client_of(redis_url=f"redis://127.0.0.1:{port}/0"))


def test_an_acl_user_with_its_password_in_a_file(tmp_path, client_of):
    secret = tmp_path / "password"
    secret.write_text("pw")
    with redis_server(tmp_path) as (port, _):
        admin = client_of(redis_url=f"redis://127.0.0.1:{port}/0")
        admin.execute_command("ACL", "SETUSER", "trim", "on", ">pw", "~trimtab:*", "&trimtab:*", "+@all")
        client = client_of(redis_url=f"redis://trim:ignored@127.0.0.1:{port}/0", redis_password_file=str(secret))
        with redis_errors():
            assert client.get("trimtab:{a/b}:limit") is None
        with pytest.raises(Denied, match=r"(?i)permission|NOPERM"):
            attempt(client)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.ReadOnlyError("You can't write against a read only replica."), Unreachable),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), Unreachable),
        (redis.ResponseError("MASTERDOWN Link with MASTER is down"), Unreachable),
        (redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), Unreachable),
        (redis.OutOfMemoryError("command not allowed"), Unreachable),
        (redis.ResponseError("NOAUTH Authentication required."), Denied),
        (redis.exceptions.NoPermissionError("no permissions"), Denied),
        (redis.ResponseError("WRONGTYPE Operation against a key"), Rejected),
        (redis.TimeoutError("Timeout reading from socket"), TimedOut),
        (TimeoutError(), TimedOut),
        (ConnectionResetError("reset"), Unreachable),
    ],
)
def test_redis_own_words_decide_the_kind(error, kind):
    translated = translate(error)
    assert type(translated) is kind
    assert translated.system == "Redis"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"redis_password_file": "/nowhere"}, "--redis-password-file /nowhere", id="password"),
        pytest.param({"redis_url": "rediss://h", "redis_ca_file": "/nowhere"}, "--redis-ca-file /nowhere", id="ca"),
        pytest.param({"redis_url": "rediss://h", "redis_ca_file": str(Path(__file__))}, "PEM", id="ca-rubbish"),
        pytest.param({"redis_ca_file": "/nowhere"}, "only a rediss:// URL", id="ca-without-tls"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings, words):
    with pytest.raises(ConfigError, match=words):
        connect(Settings(**settings))
