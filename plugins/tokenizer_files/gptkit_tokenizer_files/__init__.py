"""Tokenizers that come as a file."""
