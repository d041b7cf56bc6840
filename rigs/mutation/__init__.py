"""Mutation tests: break the code, one small change at a time, and count which changes a test
notices.
"""
