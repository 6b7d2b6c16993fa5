"""Looking inside artifacts: how far each layer is from the torch program."""
