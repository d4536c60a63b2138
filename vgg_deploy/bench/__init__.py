"""Timing that one can trust."""
