"""launch.py RESULT COMMAND...: runs a command and writes its rusage to RESULT, as JSON.

A process inherits the peak memory of the one that started it, and the driver holds whole volumes: a
child of it would be charged with them. So children are started from this small one, which is itself
started without the site packages (`python -I -S`; about 8 MiB). Only the built-in modules that it
needs are imported.
"""
import os
import sys
import time

start = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    file.write(f'{{"cpu_s": {usage.ru_utime + usage.ru_stime:.3f}, "wall_s": {wall:.3f}, '
               f'"peak_mib": {usage.ru_maxrss / 1024:.1f}}}')
sys.exit(os.waitstatus_to_exitcode(status) % 256)
