"""Programs for clocks: when one is changed and how, what it measured before, and the drift of a fleet."""
