"""Observers for other systems, each of which needs an extra. Nothing imports them."""
