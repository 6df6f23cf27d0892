"""Text from a model: samplers, the loop that decodes, and the ranked next tokens."""
