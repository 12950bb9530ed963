"""Where state is kept that outlives one handshake."""
