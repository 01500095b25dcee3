"""Move a journal from a SQLite file into PostgreSQL, while no daemon uses either.

`source` reads the file in pages, `target` writes each page in one transaction that also says how
far the copy has come, `counting` compares the two at the end, `command` is what an operator runs.

The target says from the first transaction to the last that it holds a part: no daemon starts on it
meanwhile, and a copy that was stopped goes on from there. Rows keep their numbers. The journal's
secret comes along, as all digests are keyed with it. Claims end as at a start after a crash; what
else a start changes, the next start does.
"""
