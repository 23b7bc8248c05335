"""Load curves of meters as metered, and of metering points with their ratios and across exchanges."""
