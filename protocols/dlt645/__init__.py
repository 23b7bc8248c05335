"""DL/T 645-2007: the language of Chinese meters on RS-485 and power lines. Sans-I/O, see DESIGN.md."""
