"""A real Kubernetes control plane on loopback, from binaries found on this machine."""
