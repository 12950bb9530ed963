"""Observers for other systems, each of which needs an extra. Nothing imports them."""

# Seconds: from a token that is judged at once to a first message that is waited for.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
