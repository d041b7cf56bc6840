"""The rotation of every key of a running gateway, killed again and again."""
