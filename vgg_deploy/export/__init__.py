"""Checkpoint in, deployable file out."""
