"""What still has to be done: rows that are written in the transaction of their cause, done by one loop under a lease,
tried again, shown to the operator and stopped by the operator.

`table` has the rows and their SQL, `loop` does the jobs, `retry` says when a try is repeated, `events` numbers what
happened to studies and writes the jobs that follow from it. What a kind of job does belongs to the room that has it.
"""

from mdg.jobs.loop import Again, Done, Failed, Jobs, Keep, Kind, Result
from mdg.jobs.table import Job, New, State

__all__ = ["Again", "Done", "Failed", "Job", "Jobs", "Keep", "Kind", "New", "Result", "State"]
