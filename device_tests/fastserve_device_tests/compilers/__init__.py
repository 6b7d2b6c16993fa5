"""Vendors' compilers: a portable file becomes a target's own artifact."""
