"""SLED: the network, its codec, tokenizer, checkpoints, training and evaluation."""
