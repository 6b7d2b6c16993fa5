"""Programs that `torch.export` wrote (`.pt2`): reading them without running code, and writing them."""
