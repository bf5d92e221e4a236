"""Real parts on loopback for the demo and the tests: processes, a control plane, model servers, faults."""
