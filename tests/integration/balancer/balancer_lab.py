"""A real Redis that can be stopped, hung and started again, and model servers that misbehave on request."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.redis_lab import free_cluster_port

from trimtab.contract import Endpoint, Keys, ranking_document

POLICY = "models/model-service"


def eventually(condition, seconds=15.0):
    """Wait until `condition()` is true; return what it said."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.01)
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisLab:
    """One redis-server process on one port."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_cluster_port(), None
        self.keys = Keys(POLICY)
        self.client = redis.Redis(
            port=self.port,
            decode_responses=True,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more):
        binary = shutil.which("redis-server") or pytest.skip("redis-server is not installed (make tools)")
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen([binary, "--port", str(self.port), *options, *more], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def _answers(self):
        with suppress(redis.ConnectionError):
            return self.client.ping()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.client.close()

    def start_cluster(self):
        """A cluster of one node: what a client must do differently is all there."""
        self.start("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
        self.client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        eventually(lambda: re.search(r"cluster_state\W+ok", str(self.client.execute_command("CLUSTER INFO"))))

    def hang(self):
        os.kill(self.process.pid, signal.SIGSTOP)
        eventually(self.hung)

    def hung(self):
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def publish(self, seq, weights, *, announce=True, valid_for=60.0, states=None):
        rows = [
            Endpoint(name, name, rank, weight, (states or {}).get(name, "serving" if weight else "ejected"))
            for rank, (name, weight) in enumerate(weights.items(), start=1)
        ]
        text = ranking_document(
            policy=POLICY,
            seq=seq,
            published_at=time.time(),
            valid_for=valid_for,
            limit=None,
            panic=False,
            endpoints=rows,
        )
        self.client.set(self.keys.ranking, text, ex=600)
        if announce:
            self.client.publish(self.keys.changed, seq)

    def rows(self):
        return {field for field in self.client.hkeys(self.keys.inflight) if field != "total"}


class Model(BaseHTTPRequestHandler):
    """`/ok`, `/status/503`, `/break` (closes without an answer), `/stream` (chunks until told), `/move` (a redirect)."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        with suppress(ConnectionError):
            super().handle_one_request()

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, self.headers["Host"], body))
        path = self.path.partition("?")[0]
        if path.endswith("/break") or self.server.broken:
            self.close_connection = True
            self.connection.close()
            return
        if path.endswith("/stream"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n")
            self.wfile.flush()
            self.server.go_on.wait(10)
            self.wfile.write(b"5\r\nworld\r\n0\r\n\r\n")
            return
        status = int(path.rpartition("/")[2]) if "/status/" in path else 302 if path.endswith("/move") else 200
        answer = b'{"from": "%s"}' % self.server.name.encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/ok")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_HEAD = do_PUT = _answer

    def log_message(self, *_):
        pass


class ModelServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Model)
        self.name, self.seen, self.broken, self.go_on = name, [], False, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_):
        pass
