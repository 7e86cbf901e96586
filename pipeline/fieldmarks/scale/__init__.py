"""The same work on many machines: images in blocks, on Ray."""
