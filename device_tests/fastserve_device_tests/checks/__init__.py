"""Checks: plain functions from an opened model and its golden to verdicts."""
