"""Open circuit breakers: which links are not used, and why."""
