"""One connection, from its scope to its last message."""
