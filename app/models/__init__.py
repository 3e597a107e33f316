"""Uploaded networks."""
