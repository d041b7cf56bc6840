"""Knows who exists: organizations and their projects."""
