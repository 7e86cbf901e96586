"""Stage two: images classified by descriptors in CLIP's embedding space."""
