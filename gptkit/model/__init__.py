"""The mechanism: a GPT in pure PyTorch, which knows no config library, trainer or logger."""
