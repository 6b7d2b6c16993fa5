"""Sessions: opened models that run named tensors, behind one seam for all engines."""
