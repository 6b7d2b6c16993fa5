"""Faults that are put into bundles, engines and preprocessing, to see which the conformance suite finds."""
