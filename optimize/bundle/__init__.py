"""What one deploys: a folder with model, tokenizer and manifest, and the classifier that reads it.

Needs numpy, onnxruntime, tokenizers and msgspec, and no torch.
"""
