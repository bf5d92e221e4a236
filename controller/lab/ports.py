"""Free ports on loopback, handed out so that nobody else gets them before their server starts."""

from __future__ import annotations

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on `host` that only a server asking for it by number will get for the next minute.

    A connection is made to the port and closed from the listening side, so that it rests in TIME_WAIT there: the kernel
    hands such a port to nobody who asks for "any", and lets a server with SO_REUSEADDR (all of ours) bind it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, 0))
        listener.listen(1)
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as client:
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)  # the close has arrived, so the resting side is theirs
    return int(address[1])


def can_bind(host: str, port: int) -> bool:
    """Whether a server could listen there now: the address is this machine's and nobody else listens."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError:
            return False
    return True
