"""Judging outputs against the float64 reference."""
