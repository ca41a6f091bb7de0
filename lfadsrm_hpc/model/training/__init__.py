"""How a network is trained: batches, steps, learning rates, checkpoints, and the loop over epochs."""
