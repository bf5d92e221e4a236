"""Kubernetes objects in memory: versions, validation and field ownership as far as Trimtab relies on them.

Pure bookkeeping, no HTTP. Lists are atomic here (as every list of an HPA is; a Deployment's containers are not on a real
server), and nothing is pruned: unknown fields stay.
"""

from __future__ import annotations

import copy
import datetime as dt
import threading
import uuid
from typing import Any

from controller.lab.cluster.api import ApiError
from controller.lab.emulator.kinds import KINDS, Kind, default, validate
from controller.lab.emulator.ownership import (
    claim,
    conflicts,
    drop_field,
    leaves,
    live_managers,
    owned,
    read,
    record,
    write,
)

Object = dict[str, Any]
Key = tuple[str, str, str]  # resource, namespace, name


class Store:
    """Objects by (resource, namespace, name). Safe to use from any thread; what it returns is the caller's own copy."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._objects: dict[Key, Object] = {}
        self._version = 1

    @property
    def version(self) -> str:
        """The newest resourceVersion."""
        return str(self._version)

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        with self.lock:
            return copy.deepcopy(self._objects.get((resource, namespace, name)))

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """The object; ApiError 404 when there is none."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise ApiError(404, "NotFound", f'{KINDS[resource].qualified} "{name}" not found')
        return found

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        """All objects of a resource, of one namespace or (empty) of all, by namespace and name."""
        with self.lock:
            keys = sorted(key for key in self._objects if key[0] == resource and namespace in ("", key[1]))
            return [copy.deepcopy(self._objects[key]) for key in keys]

    def create(self, resource: str, namespace: str, body: Object, manager: str, *, dry_run: bool = False) -> Object:
        """POST: 409 when it exists, 422 when it is invalid."""
        with self.lock:
            new = copy.deepcopy(body)
            meta = new.setdefault("metadata", {})
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = f"{meta['generateName']}{uuid.uuid4().hex[:5]}"
            if (resource, namespace, meta.get("name", "")) in self._objects:
                raise ApiError(409, "AlreadyExists", f'{KINDS[resource].qualified} "{meta["name"]}" already exists')
            sent = leaves(new)
            new = self._born(KINDS[resource], namespace, new)
            record(new, manager, "Update", sent, KINDS[resource].api_version)
            return self._put(resource, namespace, new, dry_run=dry_run)

    def replace(
        self, resource: str, namespace: str, body: Object, manager: str, *, subresource: str = "", dry_run: bool = False
    ) -> Object:
        """PUT: 404 when absent, 409 when the body's resourceVersion is not the newest.

        A resource with a status keeps it on a plain PUT, and keeps everything else on a PUT of `status`.
        """
        with self.lock:
            name = body.get("metadata", {}).get("name", "")
            old = self.get(resource, namespace, name)
            wanted = body.get("metadata", {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                message = "the object has been modified; please apply your changes to the latest version and try again"
                raise ApiError(
                    409, "Conflict", f'Operation cannot be fulfilled on {KINDS[resource].qualified} "{name}": {message}'
                )
            if subresource == "status":
                new = {**old, "status": copy.deepcopy(body.get("status", {}))}
            else:
                new = {**copy.deepcopy(body), **({"status": old["status"]} if "status" in old else {})}
                kept = ("uid", "creationTimestamp", "managedFields", "deletionTimestamp", "namespace")
                new["metadata"] |= {key: old["metadata"][key] for key in kept if key in old["metadata"]}
                new |= {"apiVersion": old["apiVersion"], "kind": old["kind"]}
            return self._changed(resource, namespace, old, new, manager, dry_run=dry_run)

    def merge(
        self,
        resource: str,
        namespace: str,
        name: str,
        patch: Object,
        manager: str,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """PATCH with a JSON merge patch (RFC 7386)."""
        with self.lock:
            old = self.get(resource, namespace, name)
            part = {"status": patch.get("status", {})} if subresource == "status" else patch
            new = _merged(old, part)
            if subresource != "status" and "status" in old:
                new["status"] = old["status"]
            wanted = patch.get("metadata", {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                raise ApiError(
                    409, "Conflict", f'Operation cannot be fulfilled on {KINDS[resource].qualified} "{name}": stale'
                )
            return self._changed(resource, namespace, old, new, manager, dry_run=dry_run)

    def apply(
        self,
        resource: str,
        namespace: str,
        name: str,
        body: Object,
        manager: str,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> tuple[Object, bool]:
        """PATCH by server-side apply. Returns the object and whether it was created.

        Other managers' fields with another value are a 409 unless `force`. Fields that this manager applied before, leaves out
        now and owned alone are removed, and fall back to their defaults.
        """
        kind = KINDS[resource]
        with self.lock:
            old = self.find(resource, namespace, name)
            new = copy.deepcopy(old) if old else {"metadata": {"name": name}}
            wanted = leaves(body)
            clashes = conflicts(new, manager, wanted)
            if clashes and not force:
                causes = [
                    {
                        "reason": "FieldManagerConflict",
                        "field": f".{'.'.join(path)}",
                        "message": f'conflict with "{other}" using {kind.api_version}',
                    }
                    for path, other in clashes
                ]
                who = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
                message = f"Apply failed with {len(clashes)} conflict{'s'[: len(clashes) > 1]}: {who}"
                raise ApiError(409, "Conflict", message, causes)
            before = owned(new, manager, "Apply")
            for path in before - set(wanted):
                if live_managers(new, path) == {(manager, "Apply")}:
                    drop_field(new, path)
            for path, value in wanted.items():
                if read(new, path) != value:
                    write(new, path, copy.deepcopy(value))
            if old is None:
                new = self._born(kind, namespace, new)
            claim(new, manager, set(wanted), kind.api_version, {path for path, _ in clashes})
            default(resource, new)
            if old == new:
                return new, False
            return self._put(resource, namespace, new, dry_run=dry_run), old is None

    def set_status(self, resource: str, namespace: str, name: str, status: Object) -> None:
        """Set parts of the status, keeping the rest; ApiError 404 when the object is gone."""
        with self.lock:
            new = self.get(resource, namespace, name)
            new["status"] = {**(new.get("status") or {}), **copy.deepcopy(status)}
            self._put(resource, namespace, new)

    def delete(
        self, resource: str, namespace: str, name: str, *, grace_seconds: int | None = None, uid: str = ""
    ) -> Object:
        """DELETE. A pod on a node is marked and waits for its kubelet, unless the grace period is 0."""
        with self.lock:
            old = self.get(resource, namespace, name)
            if uid and uid != old["metadata"]["uid"]:
                raise ApiError(
                    409, "Conflict", f'the UID in the precondition ({uid}) does not match the UID of "{name}"'
                )
            if resource == "pods" and grace_seconds != 0 and old.get("spec", {}).get("nodeName"):
                if "deletionTimestamp" not in old["metadata"]:
                    old["metadata"]["deletionTimestamp"] = now()
                    self._put(resource, namespace, old)
                return old
            del self._objects[resource, namespace, name]
            self._version += 1
            return old

    def _born(self, kind: Kind, namespace: str, new: Object) -> Object:
        meta = {**new["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.namespaced:
            meta["namespace"] = namespace
        return {**new, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}

    def _changed(
        self, resource: str, namespace: str, old: Object, new: Object, manager: str, *, dry_run: bool
    ) -> Object:
        before, after = leaves(old), leaves(new)
        moved = {path for path, value in after.items() if before.get(path) != value}
        default(resource, new)
        if new == old:
            return old
        record(new, manager, "Update", moved, KINDS[resource].api_version)
        return self._put(resource, namespace, new, dry_run=dry_run)

    def _put(self, resource: str, namespace: str, new: Object, *, dry_run: bool = False) -> Object:
        default(resource, new)
        validate(resource, new)
        meta = new["metadata"]
        if dry_run:
            return new
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self._objects[resource, namespace, meta["name"]] = copy.deepcopy(new)
        return new


def now() -> str:
    """The time as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return copy.deepcopy(new)
