"""Giving connections back: what must have been said before they are closed."""

import asyncio

import pytest

from trimtab.queue import asynclink
from trimtab.queue.asynclink import DirectLink


class Connection:
    """One that takes its time to say goodbye, as TLS does."""

    def __init__(self, goodbye_seconds):
        self._goodbye_seconds = goodbye_seconds
        self.said_goodbye = False

    async def send_packed_command(self, packed, check_health=True): ...

    async def read_response(self, **_):
        return b"1"

    async def disconnect(self, nowait=False):
        if not nowait:
            await asyncio.sleep(self._goodbye_seconds)
            self.said_goodbye = True


class Client:
    """A client, and the pool of it, with one connection."""

    def __init__(self, connection):
        self.connection_pool = self
        self.connection, self.released = connection, []

    async def get_connection(self):
        return self.connection

    async def release(self, connection):
        self.released.append(connection)


@pytest.mark.parametrize(("goodbye_seconds", "said"), [(0.01, True), (60.0, False)], ids=["soon", "never"])
def test_a_link_that_is_closed_waits_for_the_goodbye_but_not_for_long(monkeypatch, goodbye_seconds, said):
    monkeypatch.setattr(asynclink, "CALL_SECONDS", 0.5)
    client = Client(Connection(goodbye_seconds))

    async def scenario():
        link = DirectLink(client, [b"k"], owned=False)
        await link.pop("list", 0.1)
        async with asyncio.timeout(30.0):
            await link.close()

    asyncio.run(scenario())
    assert client.connection.said_goodbye is said
    assert client.released == [client.connection]
