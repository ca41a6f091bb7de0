"""The TensorFlow 2 LFADS, usable alone on arrays. Only its submodules import tensorflow."""
