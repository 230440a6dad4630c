"""Model types that transformers lacks; once this is imported, checkpoints of them can be loaded."""

from optimize.models import mean_pooled_bert, static_words

__all__ = ["mean_pooled_bert", "static_words"]
