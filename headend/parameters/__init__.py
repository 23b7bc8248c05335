"""Parameters programs: attributes written and read back, scripts run."""
