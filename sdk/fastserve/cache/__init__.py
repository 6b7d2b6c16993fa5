"""The cache of finished steps: content-addressed, written whole or not at all."""
