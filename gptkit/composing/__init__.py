"""What composing a config is made of, apart from Hydra: YAML files, words, and errors that teach."""
