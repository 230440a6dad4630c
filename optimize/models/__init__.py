"""Checkpoints, and what one must know of an encoder's inside."""
