"""Our code against its peers, in one process; each prints its own table."""
