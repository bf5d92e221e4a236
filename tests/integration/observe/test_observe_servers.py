"""The Prometheus adapter against servers that misbehave."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.deadline import Deadline
from controller.errors import Denied, NotFound, Rejected, Throttled, TimedOut, Unreachable
from controller.observe import prometheus as adapter
from controller.observe.metrics import MetricsReader
from controller.observe.prometheus import PrometheusServer
from controller.settings import Settings

pytestmark = pytest.mark.integration

AT = 1_790_000_000.0
EMPTY = {"status": "success", "data": {"resultType": "vector", "result": []}}


def settings(url, **more):
    return Settings(prometheus_url=url, **({"prometheus_timeout_seconds": 5.0} | more))


def ask(url, query="up", own=None, **more):
    server = PrometheusServer(url, settings(own or url, **more))
    try:
        server.begin()
        return server.ask(query, AT, Deadline.after(10))
    finally:
        server.close()


def failure(status, text):
    return lambda handler: handler.reply({"status": "error", "errorType": "bad_data", "error": text}, status)


def hang(handler):
    handler.server.released.wait(30)


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")


def drip_chunks(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"1\r\n \r\n")


def drip_and_close(handler):
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")


def stall(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.server.released.wait(30)


@pytest.mark.parametrize(
    ("behave", "error", "words"),
    [
        pytest.param(failure(400, 'parse error: unexpected "}"'), Rejected, "parse error", id="400"),
        pytest.param(failure(422, "many-to-many matching"), Rejected, "many-to-many", id="422"),
        pytest.param(failure(401, "who are you"), Denied, "HTTP 401", id="401"),
        pytest.param(lambda h: h.reply(b"<html>", 403), Denied, "HTTP 403", id="403"),
        pytest.param(lambda h: h.reply(b"", 404), NotFound, "HTTP 404", id="404"),
        pytest.param(lambda h: h.reply(b"", 429, Retry_After="3600"), Throttled, "HTTP 429", id="429"),
        pytest.param(lambda h: h.reply(b"", 500), Unreachable, "HTTP 500", id="500"),
        pytest.param(lambda h: h.reply(b"", 503, Retry_After="3600"), Unreachable, "HTTP 503", id="503"),
        pytest.param(failure(503, "query timed out in expression evaluation"), TimedOut, "timed out", id="its timeout"),
        pytest.param(lambda h: h.reply(b"<html>log in</html>"), Rejected, "is this its URL", id="HTML"),
        pytest.param(lambda h: h.reply(b"[]"), Rejected, "is this its URL", id="a list"),
        pytest.param(lambda h: h.reply({"status": "success"}), Rejected, "not Prometheus'", id="no data"),
        pytest.param(lambda h: h.reply({"status": "error", "error": "no"}), Rejected, "no", id="error with 200"),
        pytest.param(
            lambda h: h.reply({"status": "success", "data": {"resultType": "matrix", "result": []}}),
            Rejected,
            "returns a matrix",
            id="matrix",
        ),
        pytest.param(lambda h: h.connection.shutdown(socket.SHUT_RDWR), Unreachable, "", id="hangs up"),
    ],
)
def test_every_failure_is_one_leaf_of_the_tree(serve, behave, error, words):
    server = serve(behave)
    with pytest.raises(error) as raised:
        ask(server.url)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "behave",
    [hang, drip, drip_chunks, drip_and_close, stall],
    ids=["hang", "drip", "drip in chunks", "drip without a length", "stall"],
)
def test_a_slow_server_is_cut_off(serve, behave):
    server = serve(behave)
    began = time.monotonic()
    with pytest.raises(TimedOut):
        ask(server.url, prometheus_timeout_seconds=0.4)
    assert time.monotonic() - began < 10  # far below what the server would take
    assert len(server.requests) == 1


def test_a_refused_connection_is_unreachable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match="connection refused"):
            ask(f"http://127.0.0.1:{port}")


def test_a_huge_answer_is_refused(serve, monkeypatch):
    monkeypatch.setattr(adapter, "BODY_MAX_BYTES", 1024 * 1024)
    server = serve(lambda h: h.reply(b" " * (2 * 1024 * 1024)))
    with pytest.raises(Rejected, match="larger than 1 MiB"):
        ask(server.url)


def test_one_instant_and_a_limit_are_sent_and_values_are_read(serve):
    result = [{"metric": {"pod": n}, "value": [AT, v]} for n, v in (("a", "1.5"), ("b", "NaN"), ("c", "+Inf"))]
    server = serve(
        lambda h: h.reply(
            {"status": "success", "warnings": ["store x: down"], "data": {"resultType": "vector", "result": result}}
        )
    )
    answer = ask(f"{server.url}/", "a b", prometheus_timeout_seconds=2.5)
    assert [str(series.value) for series in answer.series] == ["1.5", "nan", "inf"]
    assert answer.warnings == ("store x: down",)
    assert server.requests[0][0] == "/api/v1/query?query=a+b&time=1790000000.000&timeout=2500ms"


def test_a_scalar_has_no_labels(serve):
    server = serve(lambda h: h.reply({"status": "success", "data": {"resultType": "scalar", "result": [AT, "NaN"]}}))
    (series,) = ask(server.url).series
    assert series.labels == {}


def test_a_token_is_read_anew_each_tick(serve, tmp_path):
    token = tmp_path / "token"
    server = serve(lambda h: h.reply(EMPTY))
    prometheus = PrometheusServer(server.url, settings(server.url, prometheus_token_file=str(token)))
    for text in ("first\n", "second\n"):
        token.write_text(text)
        prometheus.begin()
        prometheus.ask("up", AT, Deadline.after(5))
    assert [headers["Authorization"] for _, headers in server.requests] == ["Bearer first", "Bearer second"]
    token.unlink()
    with pytest.raises(Denied, match="--prometheus-token-file"):
        prometheus.begin()
    prometheus.close()


def test_basic_authentication(serve, tmp_path):
    (tmp_path / "password").write_text("hunter2\n")
    server = serve(lambda h: h.reply(EMPTY))
    ask(server.url, prometheus_username="ann", prometheus_password_file=str(tmp_path / "password"))
    assert server.requests[0][1]["Authorization"] == "Basic YW5uOmh1bnRlcjI="


def test_credentials_stay_with_the_configured_server(serve, tmp_path):
    (tmp_path / "token").write_text("secret")
    server = serve(lambda h: h.reply(EMPTY))
    ask(server.url, own="http://127.0.0.1:1", prometheus_token_file=str(tmp_path / "token"))
    assert "Authorization" not in server.requests[0][1]


def test_a_netrc_file_adds_no_credentials(serve, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(lambda h: h.reply(EMPTY))
    ask(server.url)
    assert "Authorization" not in server.requests[0][1]


def test_a_redirect_is_not_followed(serve, tmp_path):
    (tmp_path / "token").write_text("secret")
    thief = serve(lambda h: h.reply(EMPTY))
    server = serve(lambda h: h.reply(b"", 302, Location=f"{thief.url}/steal"))
    with pytest.raises(Rejected, match="redirects to"):
        ask(server.url, prometheus_token_file=str(tmp_path / "token"))
    assert thief.requests == []


def test_a_password_in_the_url_is_used_and_never_shown(serve):
    server = serve(lambda h: h.reply(b"", 500))
    url = server.url.replace("http://", "http://ann:hunter2@")
    with pytest.raises(Unreachable) as raised:
        ask(url)
    assert "hunter2" not in str(raised.value)
    assert server.requests[0][1]["Authorization"] == "Basic YW5uOmh1bnRlcjI="


def certificate(folder, name, issuer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issued = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(issued.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return issued, key


@pytest.fixture
def tls(serve, tmp_path):
    ca = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", ca)
    certificate(tmp_path, "client", ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return serve(lambda h: h.reply(EMPTY), context), tmp_path


def test_tls_with_a_ca_and_a_client_certificate(tls):
    server, folder = tls
    answer = ask(
        server.url,
        prometheus_ca_file=str(folder / "ca.pem"),
        prometheus_cert_file=str(folder / "client.pem"),
        prometheus_key_file=str(folder / "client.key"),
    )
    assert answer.series == ()


def test_tls_with_an_unknown_ca_is_refused(tls):
    with pytest.raises(Unreachable, match="TLS"):
        ask(tls[0].url)


def test_a_server_that_fails_is_asked_once_a_tick(serve, policy):
    server = serve(lambda h: h.reply(b"", 503))
    reader = MetricsReader(settings(server.url))
    policies = [policy(name) for name in ("a", "b")]
    answer = reader.read(policies, AT, Deadline.after(5))
    assert len(server.requests) == 1
    assert answer.problems == [f"Prometheus: {server.url}: HTTP 503"]
    assert {metrics.problem for metrics in answer.policies.values()} == {f"{server.url}: HTTP 503"}
    reader.close()


def test_ten_policies_of_ten_instances_cost_as_much_as_one(serve, policy):
    instances = [
        {"metric": {"service": f"p{p}", "pod": f"p{p}-{i}"}, "value": [AT, str(AT - 1)]}
        for p in range(10)
        for i in range(10)
    ]
    server = serve(lambda h: h.reply({"status": "success", "data": {"resultType": "vector", "result": instances}}))
    reader = MetricsReader(settings(server.url))
    counts = []
    for amount in (1, 10):
        before = len(server.requests)
        policies = [policy(f"p{i}", signals={"preset": "fastapi"}) for i in range(amount)]
        answer = reader.read(policies, AT, Deadline.after(5))
        counts.append(len(server.requests) - before)
        assert all(len(metrics.names()) == 10 for metrics in answer.policies.values())
    assert counts[0] == counts[1]
    reader.close()


def test_a_dead_server_does_not_spoil_another(serve, policy):
    good, bad = serve(lambda h: h.reply(EMPTY)), serve(hang)
    reader = MetricsReader(settings(good.url, prometheus_timeout_seconds=0.4))
    one = policy("one")
    two = policy("two", signals={"prometheus": bad.url, **one.spec.signals.model_dump(include={"rate"})})
    answer = reader.read([one, two], AT, Deadline.after(5))
    assert answer.policies[one.key].problem is None
    assert "no answer within 0.4 s" in answer.policies[two.key].problem
    reader.close()


def test_headers_that_drip_are_left_behind_and_do_not_pile_up(serve, policy):
    def drip_headers(handler):
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b"H")

    server = serve(drip_headers)
    reader = MetricsReader(settings(server.url, prometheus_timeout_seconds=0.3))
    first = reader.read([policy()], AT, Deadline.after(0.8))
    second = reader.read([policy()], AT, Deadline.after(0.8))
    assert "no answer within the tick" in first.problems[0]
    assert "still waiting for the last call" in second.problems[0]
    assert len(server.requests) == 1
    reader.close()
