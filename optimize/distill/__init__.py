"""The teacher, what it says of texts, and the student that learns from it."""
