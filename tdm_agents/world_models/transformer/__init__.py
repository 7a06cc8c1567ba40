"""The transformer dynamics model: tokens, network, cache, and the world model over them."""
