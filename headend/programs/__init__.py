"""Programs applied to meters: one procedure for each kind, one state machine for all."""
