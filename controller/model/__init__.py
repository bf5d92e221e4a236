"""The values that flow between the rooms. Standard library only: no client, no clock, no I/O."""
