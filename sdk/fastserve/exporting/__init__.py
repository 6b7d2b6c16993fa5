"""From a checkpoint to a bundle: what is asked, what is refused, and the whole way."""
