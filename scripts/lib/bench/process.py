"""A program that is measured: what it says, the processor time it takes, the memory it holds."""

import os
import signal
import subprocess
import time

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Of all processors: what others may take before a run says little.
DISTURBED_SHARE = 0.15

# Below this the counts of the kernel, of ten milliseconds each, say nothing of that.
TELLING_S = 0.2


class Process:
    live = []

    def __init__(self, command, log, namespace=None, stdin=subprocess.PIPE):
        """Runs a command; `log`.out and `log`.err get what it says."""
        self.command, self.log = list(map(str, command)), log
        self.code, self.usage, self.peak_kib = None, None, 0
        into = ["nsenter", f"--net=/run/netns/{namespace}", "--"] if namespace else []
        with open(f"{log}.out", "ab") as out, open(f"{log}.err", "ab") as err:
            self.child = subprocess.Popen(
                into + self.command,
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=os.path.dirname(log),
            )
        self.pid = self.child.pid
        Process.live.append(self)

    def tell(self, line):
        self.child.stdin.write(f"{line}\n".encode())
        self.child.stdin.flush()

    def is_running(self):
        if self.code is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.code, self.usage = os.waitstatus_to_exitcode(status), usage
                # Waited for here, and so not by subprocess.
                self.child.returncode = self.code
                if self.child.stdin:
                    self.child.stdin.close()
                Process.live.remove(self)
        return self.code is None

    def cpu_s(self):
        """User and system time so far, that of ended children included."""
        if not self.is_running():
            return self.usage.ru_utime + self.usage.ru_stime
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS_PER_S

    def peak_rss_kib(self):
        """The most that it has held; of one that has ended, until it was asked last. What the kernel says
        of the dead counts what this program held when it started them."""
        if self.is_running():
            with open(f"/proc/{self.pid}/status") as status:
                sizes = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
            self.peak_kib = max([self.peak_kib, *sizes])
        return self.peak_kib

    def rss_kib(self):
        """What it holds now."""
        if not self.is_running():
            return 0
        with open(f"/proc/{self.pid}/status") as status:
            return sum(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def said(self):
        with open(f"{self.log}.out", errors="replace") as out, open(f"{self.log}.err", errors="replace") as err:
            return out.read() + err.read()

    def wait_for(self, condition, patience=120):
        """Until it is true; an error when the process ends before that, or it takes too long."""
        deadline = time.monotonic() + patience
        while not condition():
            has_ended = not self.is_running()
            # It may have come true with the last thing that was said.
            if has_ended and condition():
                return
            if has_ended or time.monotonic() > deadline:
                words = "took too long" if self.code is None else f"ended with code {self.code}"
                raise RuntimeError(f"{self.command[0]} {words}: {self.said()[-1000:]}")
            time.sleep(0.01)

    def end(self, number=signal.SIGTERM):
        if self.is_running():
            os.kill(self.pid, number)

    @classmethod
    def end_all(cls):
        for process in list(cls.live):
            process.end()
        deadline = time.monotonic() + 5
        while any([process.is_running() for process in list(cls.live)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in list(cls.live):
            process.end(signal.SIGKILL)
        while any([process.is_running() for process in list(cls.live)]):
            time.sleep(0.01)


def disturbance(others_s, took_s):
    """What a result says of the processor time that others took meanwhile."""
    share = max(0.0, others_s) / os.cpu_count() / took_s
    is_disturbed = share > DISTURBED_SHARE and took_s > TELLING_S
    return {"others_share": round(share, 3), "disturbed": is_disturbed}


def machine_busy_s():
    """Seconds that the processors of the machine were busy, with this or anything else."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
