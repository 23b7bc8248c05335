"""People: who acts, and what he may do."""
