"""What a broker brings: connection, slots, and the way of messages into the store."""
