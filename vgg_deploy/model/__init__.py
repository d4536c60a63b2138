"""The network, torchvision's weights and keys, the shape and cost table."""
