"""What holds minReplicas up: schedules, and demand. A floor only ever raises; the largest one counts."""
