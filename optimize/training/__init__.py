"""The Trainer that teacher and student share."""
