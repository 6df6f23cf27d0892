"""Drawing text from a model: samplers, the loop, and the ranked next tokens."""
