"""ONNX to ONNX: the fp32 file in another precision; casts and Q/DQ stand in the graph itself."""

from vgg_deploy.precision.convert import ONNX_PRECISIONS, convert
from vgg_deploy.precision.options import CalibrationOptions

__all__ = ["ONNX_PRECISIONS", "CalibrationOptions", "convert"]
