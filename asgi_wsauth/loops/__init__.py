"""Building blocks for event loops that anyio lacks: per-loop state, timers, fair queues."""
