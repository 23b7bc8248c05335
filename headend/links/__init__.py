"""Being polite to links: permits, pace, breakers, and how failures are told."""
