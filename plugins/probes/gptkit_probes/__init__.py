"""Tasks that ask where tokens stand, as data: trained on short examples, asked about longer ones too."""
