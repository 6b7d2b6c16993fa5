"""Measuring on a device: latency, memory, heat, and the machine that they belong to."""
