"""Measure: what the kernel counted, and nothing that a process says of itself."""

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sample", "cpu_time", "elsewhere", "memory"]

# CPUCLOCK_SCHED: the number of a process's CPU clock is made of this and its id, as by
# clock_getcpuclockid(3).
_SCHED = 2


class Sample(NamedTuple):
    """One measurement, in the unit of its row.

    Args:
        figure: The server's own: CPU time, memory, or time to start.
        wall: How long it took on the clock, where that is another figure.
    """

    figure: float
    wall: float | None = None


def cpu_time(pid: int) -> float:
    """Seconds that all threads of a process have been on a CPU so far, to the nanosecond.

    /proc/PID/stat has them only in ticks of 10 ms.
    """
    return time.clock_gettime_ns(~pid << 3 | _SCHED) / 1e9


def memory(pid: int, field: str) -> int:
    """Octets of a process: ``VmRSS`` for the resident ones now, ``VmHWM`` for their peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def elsewhere() -> float:
    """Seconds of CPU time that went to none of us so far: other processes, other machines.

    Children count as ours when they have ended.
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    busy = user + nice + system + irq + softirq + steal
    return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])
