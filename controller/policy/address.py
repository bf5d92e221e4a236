"""The forms of addresses in a policy: endpoint templates and server URLs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_FIELD = re.compile(r"\{([^{}]*)\}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+):\d+")


def template_fields(template: str) -> tuple[str, ...]:
    """The names in braces, in order: `("pod_ip",)` of `http://{pod_ip}:8000`."""
    return tuple(_FIELD.findall(template))


def endpoint_template(template: str) -> str:
    """The template, if filling it with labels gives an http(s) URL or `host:port`.

    Raises:
        ValueError: what is wrong, in plain words.
    """
    for name in template_fields(template):
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{{{name}}} is no label name; write {{pod_ip}} or a label such as {{instance}}")
    bare = _FIELD.sub("1", template)
    if "{" in bare or "}" in bare:
        raise ValueError("the braces do not pair up; write for example http://{pod_ip}:8000")
    if bare == "1" or _HOST_PORT.fullmatch(bare):
        return template
    _split(bare, "must be a URL such as http://{pod_ip}:8000, or host:port such as {pod_ip}:8001")
    return template


def server_url(url: str) -> str:
    """The URL, if it is http(s) and carries no password.

    Raises:
        ValueError: what is wrong, in plain words.
    """
    _split(url, "must be a URL such as http://prometheus:9090")
    return url


def broker_url(url: str) -> str:
    """The URL of a queue's Redis or broker, if it carries no password.

    Raises:
        ValueError: what is wrong, in plain words.
    """
    try:
        parts = urlsplit(url)
        known = bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("must be a URL such as redis://redis:6379/0")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user or password: it is shown in logs; put the whole URL into a urlFile")
    return url


def _split(url: str, wrong: str) -> None:
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"{wrong}, without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{wrong} ({error})") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError(wrong)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user or password: it is shown in logs and in Redis")
