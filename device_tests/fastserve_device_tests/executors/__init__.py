"""Engines that only targets have: executors of GPUs and NPUs, or what stands for them on an ordinary machine."""
