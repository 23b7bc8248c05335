"""P1 ports (DSMR and its relatives): telegrams that come by themselves."""
