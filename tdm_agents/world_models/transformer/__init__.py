"""The transformer dynamics model: tokens, network, decoding, and the world model over them."""
