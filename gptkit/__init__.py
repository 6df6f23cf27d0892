"""gptkit: a GPT is a composition of named parts."""
__version__ = "0.1.0"
