"""Runs what is to be compared in turn, so that what else the machine does befalls all of it."""

import sys


def rounds(report, case, entries, count):
    """Entries are the names of programs and what to call for a run of each; the results go to the report.
    What others disturbed is run once more."""
    report.begin(case)
    for number in range(count):
        for program, run in entries:
            result = once(program, run)
            report.add(case, number, result)
            if result["disturbed"] and result["complete"]:
                report.add(case, number, once(program, run))


def once(program, run):
    nothing = {"program": program, "complete": False, "intact": False, "disturbed": False}
    try:
        return nothing | run()
    except (RuntimeError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return nothing | {"error": str(error)}
