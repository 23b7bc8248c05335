"""A whole night at the size of a county, on one machine with simulator and database, measured by process."""
