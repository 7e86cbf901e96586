"""The OpenVINO engine, the conversion of checkpoints for it, and the cache of converted models."""
