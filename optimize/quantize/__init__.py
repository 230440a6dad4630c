"""A trained model to ONNX, to INT8, and what is fitted on validation then."""
