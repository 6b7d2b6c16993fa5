"""Conformance: do a bundle's artifacts compute on each target what the reference computes?"""
