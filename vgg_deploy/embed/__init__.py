"""``embed``: a small, complete app around the embedded ONNX file of a bundle."""

from vgg_deploy.embed.targets import TABLE, TARGETS, TargetName
from vgg_deploy.embed.write import EmbedOptions, Written, embed_bundle

__all__ = ["TABLE", "TARGETS", "EmbedOptions", "TargetName", "Written", "embed_bundle"]
