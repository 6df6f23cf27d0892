"""Where metrics go, beside metrics.jsonl."""

from gptkit.train.loggers.base import Logger, Loggers, build_loggers

__all__ = ["Logger", "Loggers", "build_loggers"]
