"""The moment: reads that somebody asks for now, how far they are, and telling when they have ended."""
