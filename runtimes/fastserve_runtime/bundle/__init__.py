"""Bundles: what ships. Their manifest, the files beside it, and what they say of themselves."""
