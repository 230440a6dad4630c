"""Make a text classifier small and fast, and prove in CI that it stayed right."""

from optimize.records import Prediction
from optimize.runtime import BundleError, Classifier

__all__ = ["BundleError", "Classifier", "Prediction", "__version__"]

__version__ = "0.1.0"
