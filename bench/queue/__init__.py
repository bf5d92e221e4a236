"""The request queue against its peers: throughput, round trips, latency, depth, and a soak of the chaos test."""
