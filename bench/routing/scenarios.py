"""What is compared: fleets, loads and mishaps, each with the promise that it is there to test."""

from __future__ import annotations

from bench.routing.run import UNEQUAL, Setting

EQUAL = (1.0,) * 10
LOADS = (0.6, 0.75, 0.9)
SINKHOLE_AT = 200.0

UNEQUAL_FLEET = {f"unequal, load {load:g}": Setting(load=load) for load in LOADS}
MANY_CLIENTS = {
    f"200 clients, load {load:g}": Setting(load=load, clients=200, seconds=260.0, warm=80.0) for load in LOADS
}
OLD_DATA = {f"scrape 15 s, load {load:g}": Setting(load=load, scrape=15.0) for load in LOADS}
EQUAL_FLEET = {
    f"equal, load {load:g}": Setting(speeds=EQUAL, antagonists=False, load=load, seconds=300.0) for load in LOADS
}

OTHERS = {
    "one client": Setting(clients=1),
    "scrape 30 s": Setting(scrape=30.0),
    "2 instances": Setting(speeds=(1.0, 0.5), clients=5),
    "200 instances": Setting(speeds=UNEQUAL * 20, seconds=60.0, warm=30.0),
    "batching servers": Setting(batch=True),
    "heavy-tailed work": Setting(heavy=True, load=0.6),
    "cold start of all": Setting(warm=0.0, seconds=120.0),
    "slow in the middle": Setting(
        speeds=EQUAL, antagonists=False, load=0.7, events=((200.0, "slow", 5), (400.0, "usual", 5))
    ),
    "fails fast": Setting(
        speeds=EQUAL, antagonists=False, load=0.6, events=((SINKHOLE_AT, "fail", 5), (400.0, "usual", 5))
    ),
    "no scrape for 60 s": Setting(events=((240.0, "dark", 0), (300.0, "light", 0))),
    "no Redis for 60 s": Setting(events=((240.0, "redis down", 0), (300.0, "redis up", 0))),
    "10 -> 20 -> 10": Setting(
        speeds=UNEQUAL * 2,
        idle=10,
        load=0.7,
        seconds=500.0,
        events=(
            *((200.0, "cold", i) for i in range(10, 20)),
            (230.0, "more", 0),
            (400.0, "less", 0),
            *((410.0, "go", i) for i in range(10, 20)),
        ),
    ),
}
