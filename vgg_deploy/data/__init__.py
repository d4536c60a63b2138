"""Data sets and the one preprocessing."""
