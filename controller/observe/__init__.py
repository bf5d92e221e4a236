"""Reads the world: Prometheus, Kubernetes and Redis become one Snapshot. Changes nothing."""
