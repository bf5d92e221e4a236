"""Await a condition instead of sleeping."""

import time

import requests

from controller.lab.cluster.api import ApiError


def eventually(condition, timeout_seconds=20.0, every_seconds=0.05):
    """The first truthy value of `condition()`; AssertionError with its last value or error when there is none in time.

    An AssertionError, a refusal or a missing answer inside the condition counts as "not yet".
    """
    until = time.monotonic() + timeout_seconds
    while True:
        try:
            value = condition()
            last = f"last value: {value!r}"
        except (AssertionError, ApiError, requests.RequestException) as error:
            value, last = None, f"last error: {type(error).__name__}: {error}"
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not true within {timeout_seconds:g} s; {last}")
        time.sleep(every_seconds)
