"""Learning from labelled images: weights of descriptors, thresholds that reject, sets with a guarantee."""
