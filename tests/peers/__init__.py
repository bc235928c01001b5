"""Captum itself beside attrax, on random models."""
