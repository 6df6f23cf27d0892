"""`python -m gptkit` is the `gptkit` command."""

from gptkit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
