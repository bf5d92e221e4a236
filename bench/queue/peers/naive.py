"""What many write first: LPUSH, RPOP, and a 10 ms poll. No lease, no limit, no result; a crash loses the job."""

import json
import time

from common import ROLE, URL, produce, record
from redis import Redis

client = Redis.from_url(URL)
if ROLE == "produce":
    produce(lambda sent: client.lpush("naive", json.dumps({"id": int(time.time()), "data": sent})))
else:
    while True:
        value = client.rpop("naive")
        if value is None:
            time.sleep(0.01)
        else:
            record(json.loads(value)["data"])
