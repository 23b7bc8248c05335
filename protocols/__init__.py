"""Sans-I/O protocol codecs: bytes to events, events to bytes. No asyncio, no sockets, no database."""
