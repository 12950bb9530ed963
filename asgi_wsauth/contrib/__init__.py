"""Observers for other systems, and existing logins.

Most need an extra, and nothing else in the package imports them.
"""

# Seconds: from a token that is verified at once to a wait for a first message.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
