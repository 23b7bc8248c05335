"""What meters, concentrators and brokers report: filtered, newest first, in JSON and CSV."""
