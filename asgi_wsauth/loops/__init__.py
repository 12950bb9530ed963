"""About event loops: what anyio has no words for."""
