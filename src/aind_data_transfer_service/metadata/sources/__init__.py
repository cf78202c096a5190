"""Metadata sources, one module or package per system."""
