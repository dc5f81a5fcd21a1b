"""Training: layouts, losses, data, and the loops for the network and the codec."""
