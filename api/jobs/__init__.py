"""Jobs: what is read of meters, how far it is, and what came of it."""
