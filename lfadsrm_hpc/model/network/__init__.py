"""The network itself: sizes, parameters, layers, and the forward pass through all of them."""
