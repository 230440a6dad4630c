"""Stages that make models. Needs the extra ``build`` (torch, transformers, datasets, optimum)."""
