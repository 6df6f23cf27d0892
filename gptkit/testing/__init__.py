"""The laws that every part obeys, core or stranger's, as checks that can be run on any of them.

    pytest --gptkit-conformance my-plugin      each check a test
    gptkit check rotary                        the same as a table

A part needs nothing to be checked. Its class may say two things:

    examples: ClassVar = [{"window": 4}]                  options to try beside the defaults
    expected_failures: ClassVar = {"learns": "reason"}    laws that it breaks, on purpose

An expected failure that passes is itself a failure, so that the list stays true.
"""

from __future__ import annotations

from gptkit.testing.checks import Check, Outcome, checks_of, run_check, subjects_of

__all__ = ["Check", "Outcome", "checks_of", "run_check", "subjects_of"]
