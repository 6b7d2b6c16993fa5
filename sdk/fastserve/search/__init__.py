"""The search under a budget: what is tried, how it is judged, and which of it is best."""
