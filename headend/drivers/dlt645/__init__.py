"""DL/T 645-2007 meters on serial lines and behind transparent gateways."""
