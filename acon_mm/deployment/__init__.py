"""Files that run a trained model without OpenMMLab: ONNX, TorchScript, exported programs."""

from .export import ExportedFile, export_model
from .verification import verify

__all__ = ['ExportedFile', 'export_model', 'verify']
