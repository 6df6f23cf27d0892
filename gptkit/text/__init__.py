"""From text to batches: corpora, tokenizers, token arrays, and which tokens each step reads."""
