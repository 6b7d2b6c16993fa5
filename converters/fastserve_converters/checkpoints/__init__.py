"""Checkpoints: what a model's files say, read without running anything of it, and loading what they hold."""
