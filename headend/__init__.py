"""The service: asyncio, sessions with meters, ingest, storage, keys, and the command line."""
