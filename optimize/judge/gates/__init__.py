"""Measurements and limits to verdicts."""
