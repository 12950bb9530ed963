"""Parsers under arbitrary bytes. See `targets`; `python -m tests.fuzz` runs one for longer."""
