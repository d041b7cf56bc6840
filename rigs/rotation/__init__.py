"""Replaces every key of a running gateway, and kills what replaces them (V1)."""
