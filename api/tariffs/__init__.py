"""Time-of-use programs: which a meter had when, and what is wrong with a document."""
