"""Raw input to tensors, without a framework."""
