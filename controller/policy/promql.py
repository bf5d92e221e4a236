"""The placeholders of a query. Observing fills them; here they are only named and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from controller.policy.quantity import duration_seconds

PLACEHOLDERS: Mapping[str, str] = {
    "selector": "the label matchers of the policy's selector",
    "by": "the labels that name an instance",
    "window": "the rate window, such as 60s",
    "quantile": "the quantile of the SLO, such as 0.95",
    "pods": "the matcher on `namespace` alone, the selector's or else the policy's, for series that know no Service",
}

_DOLLAR = re.compile(r"\$(\{\w*\}|\w*)")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`')

_NEWEST = re.compile(r"\b(?:last|present)_over_time\s*\([^()\[\]]*\[[^\]]*\]")
"""What looks back only for the newest sample."""
_RANGE = re.compile(r"\[\s*([^\]:]*?)\s*(?::[^\]]*)?\]")


def fill(query: str, **values: str) -> str:
    """The query with its placeholders replaced in one pass, so that a value which looks like one stays as it is.

    Raises:
        KeyError: the query uses a placeholder that has no value.
    """
    return re.sub(r"\$([a-z]+)\b", lambda match: values[match.group(1)], query)


def checked_query(query: str) -> str:
    """The query, if it has text and every `$` outside of strings starts a placeholder.

    Inside strings a `$` is a regular expression's anchor or a group, unless it names a placeholder.

    Raises:
        ValueError: what is wrong, in plain words.
    """
    if not query.strip():
        raise ValueError("must not be empty")
    bare = _QUOTED.sub('""', query)
    for match in _DOLLAR.finditer(bare):
        name = match.group(1)
        if name not in PLACEHOLDERS:
            known = ", ".join(f"${placeholder}" for placeholder in PLACEHOLDERS)
            raise ValueError(f"unknown placeholder ${name}; known: {known}")
    for opening, closing in ("()", "[]", "{}"):
        if bare.count(opening) != bare.count(closing):
            raise ValueError(f"`{opening}` and `{closing}` do not pair up")
    return query


@lru_cache(maxsize=256)
def longest_range(query: str, window_seconds: float) -> float:
    """How many seconds the figure of a query is a mean over: the longest range in it, 0 where there is none.

    What only looks back for the newest sample (`last_over_time`) does not count, nor a range that cannot be read.
    """
    bare = _NEWEST.sub("", _QUOTED.sub('""', query))
    return max((_seconds(match.group(1), window_seconds) for match in _RANGE.finditer(bare)), default=0.0)


def _seconds(text: str, window_seconds: float) -> float:
    if text in ("$window", "${window}"):
        return window_seconds
    try:
        return duration_seconds(text)
    except ValueError:
        return 0.0
