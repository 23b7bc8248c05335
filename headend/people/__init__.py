"""Who may act: accounts, log-in, sessions, second factors, and the principals that come of them."""
