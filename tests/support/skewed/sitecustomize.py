"""Python imports this at its start when its clock is skewed: a `time.sleep` that libfaketime does not break. See skew.py."""

import select
import time


def sleep(seconds):
    """By select(), whose timeout is relative."""
    select.select([], [], [], seconds)


time.sleep = sleep
