"""Who may act: the Lease, and the epoch that fences late writers out."""
