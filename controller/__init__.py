"""The daemon: observes model servers, decides in small explained steps, acts on Redis and Kubernetes."""
