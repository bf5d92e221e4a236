"""A real redis-server on a free loopback port, stopped whatever happens."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
import redis


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def redis_server(folder, *arguments, port=None):
    """Yields (port, process) once it answers."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (make tools)")
    port = port or free_port()
    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        _await_answer(port, process)
        yield port, process
    finally:
        process.kill()
        process.wait()


def _await_answer(port, process):
    until = time.monotonic() + 10
    probe = redis.Redis(port=port, retry=None, socket_timeout=1)
    try:
        while time.monotonic() < until and process.poll() is None:
            try:
                probe.ping()
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                return
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
    finally:
        probe.close()
    pytest.fail(f"redis-server did not answer on port {port}")
