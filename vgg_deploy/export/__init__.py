"""Checkpoint in, deployable file out: ``export(bundle, format, options=ExportOptions())``."""

from vgg_deploy.export.registry import EXPORT_FORMATS, export
from vgg_deploy.export.source import ExportOptions, Source
from vgg_deploy.export.to_program import aoti_missing

__all__ = ["EXPORT_FORMATS", "ExportOptions", "Source", "aoti_missing", "export"]
