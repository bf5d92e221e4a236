"""A small Kubernetes API in this process, for machines without a control plane."""
