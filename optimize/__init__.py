"""Make a text classifier small and fast, and prove in CI that it stayed right."""

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import BundleError
from optimize.bundle.manifest import LabelSet, Prediction

__all__ = ["BundleError", "Classifier", "LabelSet", "Prediction", "__version__"]

__version__ = "0.1.0"
