"""Export-and-deploy toolchain for VGG networks."""

__version__ = "0.1.0"
