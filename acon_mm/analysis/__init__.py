"""Measure the models, and compare them with what the paper reports."""
