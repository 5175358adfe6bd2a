"""Runs one command and prints what it took: {"seconds", "cpu", "peak"} with CPU in seconds and peak memory in MiB.

A process of its own, because Linux counts the memory of whoever starts a child into the child's peak (getrusage(2)),
and a test runner is larger than what is measured here.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

if __name__ == "__main__":
    began = time.perf_counter()
    done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}))
    sys.exit(done.returncode)
