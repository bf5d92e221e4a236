import datetime as dt
import ipaddress
import socket
import time
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis_server import free_port, redis_server

from controller.act.publish import Publisher
from controller.clients.redis import connect, redis_errors, translate
from controller.errors import ConfigError, Denied, Rejected, TimedOut, Unreachable
from controller.model.fence import Fence
from controller.model.plan import Publish
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
        admin.execute_command(
            "ACL", "SETUSER", "trim", "on", ">pw", "~trimtab:*", "resetchannels", "&trimtab:*", "+@all"
        )
        client = client_of(redis_url=f"redis://trim:ignored@127.0.0.1:{port}/0", redis_password_file=str(secret))
        with redis_errors():
            assert client.get("trimtab:{a/b}:limit") is None
        with pytest.raises(Denied, match=r"(?i)permission|NOPERM"):
            attempt(client)


IN_SCRIPT_6_2 = "Error running script (call to f_ab): @user_script:15: @user_script: 15:"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.ReadOnlyError("You can't write against a read only replica."), Unreachable),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), Unreachable),
        (redis.ResponseError("MASTERDOWN Link with MASTER is down"), Unreachable),
        (redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'."), Unreachable),
        (redis.OutOfMemoryError("command not allowed"), Unreachable),
        (redis.ResponseError(f"{IN_SCRIPT_6_2} -OOM command not allowed when used memory > 'maxmemory'."), Unreachable),
        (redis.ResponseError(f"{IN_SCRIPT_6_2} -READONLY You can't write against a read only replica."), Unreachable),
        (redis.ResponseError(f"{IN_SCRIPT_6_2} WRONGTYPE Operation against a key"), Rejected),
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


def test_the_documented_acl_user_may_publish(tmp_path, client_of):
    page = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
    command = page.partition("redis-cli ACL SETUSER ")[2].partition("\n```")[0]
    words = command.replace("\\\n", " ").replace("'", "").replace(">PASSWORD", ">pw").split()
    with redis_server(tmp_path) as (port, _):
        client_of(redis_url=f"redis://127.0.0.1:{port}/0").execute_command("ACL", "SETUSER", *words)
        publisher = Publisher(client_of(redis_url=f"redis://trimtab:pw@127.0.0.1:{port}/0"))
        publish = Publish((), 5, panic=False, valid_for_seconds=60)
        for seq in (1, 2):
            assert publisher.publish("models/svc", publish, at=1.0, fence=Fence(1, lambda: True)) == seq


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "tls.crt").write_bytes(made.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "tls.key").write_bytes(secret)
    return tmp_path


def test_tls_with_a_ca_of_our_own(certificate, client_of):
    port = free_port()
    files = ["--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key", "--tls-ca-cert-file", "tls.crt"]
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", *files]
    with redis_server(certificate, *options):
        url = f"rediss://127.0.0.1:{port}/0"
        assert attempt(client_of(redis_url=url, redis_ca_file=str(certificate / "tls.crt"))) is None
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            attempt(client_of(redis_url=url))
