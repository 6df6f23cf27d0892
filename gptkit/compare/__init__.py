"""Compare honestly: plan a sweep, run it, gather what it found, and say what that proves.

plan        words -> points: every variant with every seed, composed and checked before any trains
jobs        points -> run directories, each in a process of its own
measure     a run -> what training does not log: loss by position, longer texts, cost, proofs of pairing
gather      run directories -> results, one table in memory
statistics  the table -> differences, intervals, verdicts
honesty     the table -> warnings where a claim would be weak
pairing     the table -> proofs that variants stood on equal ground
report      all of it -> report.html, report.md, results.json, results.csv, plots
"""
