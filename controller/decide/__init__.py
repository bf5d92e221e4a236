"""Pure: a snapshot, a policy and a memory become a Plan with reasons. No clock, no network, no library client."""
