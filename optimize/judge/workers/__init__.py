"""The child processes that hold a model each, and how they are timed."""
