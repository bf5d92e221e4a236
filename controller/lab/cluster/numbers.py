"""What pods use, as a test says: the table behind metrics.k8s.io and behind the emulator's HPA."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable
from dataclasses import dataclass

Amount = float | Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one pod uses: cores and bytes."""

    cpu_cores: float
    memory_bytes: float


class PodNumbers:
    """Rules that give pods their numbers; the rule set last wins. Safe to use from any thread.

    A pod that no rule names has no numbers at all: missing, not zero.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[tuple[str, str, Amount, Amount]] = []

    def set(self, namespace: str, pods: str, cpu_cores: Amount, memory_bytes: Amount = 0.0) -> None:
        """Give numbers to the pods whose name matches `pods`, a name or a pattern such as `*` or `web-*`.

        An amount may be a function of the pod's name, called anew for each reading; None from it means no numbers.
        """
        with self._lock:
            self._rules = [rule for rule in self._rules if rule[:2] != (namespace, pods)]
            self._rules.insert(0, (namespace, pods, cpu_cores, memory_bytes))

    def clear(self, namespace: str) -> None:
        """Forget the namespace's rules: its pods have no numbers any more."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rule[0] != namespace]

    def usage(self, namespace: str, pod: str) -> Usage | None:
        """The pod's numbers now."""
        with self._lock:
            rules = list(self._rules)
        for where, pattern, cpu, memory in rules:
            if where == namespace and fnmatch.fnmatchcase(pod, pattern):
                cores = cpu(pod) if callable(cpu) else cpu
                size = memory(pod) if callable(memory) else memory
                return None if cores is None or size is None else Usage(cores, size)
        return None
