import http.client
import http.server
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.lab.process import wait_until
from controller.lab.proxy import Answer, Drip, DropReplies, FaultProxy, Hang, Latency, Refuse, Reset

pytestmark = pytest.mark.fault


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server):
    with FaultProxy(*server.server_address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=0.5)
    yield connection
    connection.close()


def ask(client, path="/", method="GET", body=None):
    try:
        client.request(method, path, body=body)
        reply = client.getresponse()
        return reply.status, reply.read()
    except BaseException:
        client.close()
        raise


def read_to_the_end(raw):
    while raw.recv(4096):
        pass


def test_it_passes_until_told_otherwise(client, proxy):
    assert [ask(client), ask(client)] == [(200, b"hello")] * 2
    assert proxy.connections == 1


@pytest.mark.parametrize(
    ("fault", "error", "reaches"),
    [
        pytest.param(Refuse(), ConnectionError, False, id="refuse"),
        pytest.param(Reset(), ConnectionResetError, False, id="reset"),
        pytest.param(Hang(), TimeoutError, False, id="hang"),
        pytest.param(DropReplies(), TimeoutError, True, id="drop replies"),
        pytest.param(Latency(1.0), TimeoutError, True, id="latency"),
    ],
)
@pytest.mark.parametrize("open_before", [True, False], ids=["open connection", "new connection"])
def test_a_fault_strikes_and_heals(client, proxy, server, fault, error, reaches, open_before):  # noqa: PLR0917 - fixtures and table
    if open_before:
        ask(client)
    server.seen.clear()
    proxy.behave(fault)
    with pytest.raises(error):
        ask(client, "/during")
    proxy.heal()
    assert ask(client, "/after") == (200, b"hello")
    assert server.seen == (["/during", "/after"] if reaches else ["/after"])


def test_what_was_held_back_is_not_delivered_late(client, proxy, server):
    proxy.behave(Hang())
    client.request("GET", "/held")
    wait_until(lambda: proxy.held, 5, "the request to arrive")
    proxy.heal()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.getresponse()
    client.close()
    ask(client, "/after")
    assert server.seen == ["/after"]


def test_a_refused_port_is_the_same_afterwards(proxy):
    before = proxy.port
    proxy.behave(Refuse())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, before), timeout=1)
    proxy.heal()
    assert proxy.port == before


def test_a_drip_is_whole_in_the_end(client, proxy):
    proxy.behave(Drip(bytes_at_a_time=40, every_seconds=0.01))
    assert ask(client) == (200, b"hello")


def test_a_canned_answer_with_headers_on_one_connection(client, proxy, server):
    proxy.behave(Answer(503, b"{}", {"Retry-After": "3600"}))
    client.request("POST", "/api/v1/query", body=b"x" * 200_000)
    reply = client.getresponse()
    assert (reply.status, reply.getheader("Retry-After"), reply.read()) == (503, "3600", b"{}")
    assert ask(client) == (503, b"{}")
    assert (server.seen, proxy.answered, proxy.connections) == ([], 2, 1)


def test_a_canned_answer_to_some_requests_only(client, proxy, server):
    proxy.behave(Answer(409, when=lambda method, _target: method == "POST"))
    assert ask(client, "/read") == (200, b"hello")
    assert ask(client, "/write", "POST", b"body") == (409, b"")
    assert server.seen == ["/read"]


def test_a_head_that_comes_in_pieces_is_forwarded_whole(proxy, server):
    proxy.behave(Answer(500, when=lambda _method, target: target == "/other"))
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as raw:
        raw.sendall(b"GET /pie")
        raw.sendall(b"ces HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(15) == b"HTTP/1.1 200 OK"
    assert server.seen == ["/pieces"]


def test_with_a_certificate_it_answers_tls(server, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    trusting = ssl.create_default_context(cafile=pem)
    with FaultProxy(*server.server_address, tls=context) as proxy:
        client = http.client.HTTPSConnection("localhost", proxy.port, timeout=5, context=trusting)
        assert ask(client) == (200, b"hello")
        proxy.behave(Answer(429, headers={"Retry-After": "1"}))
        assert ask(client)[0] == 429
        client.close()


def test_closing_frees_the_port_and_drops_connections(server):
    proxy = FaultProxy(*server.server_address)
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(4) == b"HTTP"
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            read_to_the_end(raw)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=1)
