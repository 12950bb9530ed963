"""What a scope says: who asks, and for which path."""
