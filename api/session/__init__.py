"""A person's own session: log-in, log-out, who am I."""
