"""What people and monitors see of the process: metrics, logs, health."""
