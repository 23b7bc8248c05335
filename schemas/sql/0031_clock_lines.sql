-- Who hangs on a line is asked at each turn of its meters; what they were told is in clock_changes. clock_broadcasts is written no more: it
-- stays for processes of the version before.
-- depends: 0023_clocks

CREATE INDEX meters_by_line ON meters (split_part(address, '?', 1));
