"""IEC 62056-21: readouts in plain text, the opening into HDLC, and P1 telegrams. Sans-I/O, see DESIGN.md."""
