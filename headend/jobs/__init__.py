"""Jobs are worked at by lanes: one holder each, the next most urgent first."""
