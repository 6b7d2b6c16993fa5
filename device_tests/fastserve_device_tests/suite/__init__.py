"""The suite: every variant of a bundle on every target, each in a process of its own, and what comes of it."""
