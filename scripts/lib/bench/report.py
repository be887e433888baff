"""What comes out of comparing programs: a line a run, tables of medians, and what was to be reached.

A result is one run of one program in one case, as JSON has it: `bench`, `case`, `program`, `run`,
`complete`, `intact`, `disturbed`, and whatever figures there are. One that failed has `error` instead.
"""

import json
import sys
from dataclasses import dataclass, field

from medians import median, number, ratio

OURS = "warren"

# Of rates, of the one a row is about: how many times it ours is.
AGAINST = ("ours/it", 8, lambda row: number(row, "ours_over_it", 2))


@dataclass(frozen=True)
class Goal:
    """What is to be reached: at least so much, or at most; below the floor it is missed."""

    words: str
    value: float | None
    floor: float
    aim: float | None = None
    at_most: bool = False

    def verdict(self):
        if self.value is None:
            return "not measured"
        if self.aim is not None and self.reaches(self.aim):
            return "aim reached"
        return "floor reached" if self.reaches(self.floor) else "MISSED"

    def reaches(self, mark):
        return self.value <= mark if self.at_most else self.value >= mark

    def cells(self):
        sign = "<=" if self.at_most else ">="
        marks = ("-" if mark is None else f"{sign} {mark:g}" for mark in (self.floor, self.aim))
        return [self.words, "-" if self.value is None else f"{self.value:.3f}", *marks, self.verdict()]


@dataclass
class Report:
    """Of one bench: its name, what its tables show, what they mean, and which figure ratios are of."""

    bench: str
    columns: list
    notes: str
    is_json: bool
    figure: str = "mb_per_s"
    unit: str = "MB/s"
    results: list = field(default_factory=list)
    goals: list = field(default_factory=list)
    # What theory or a reference allows in a case, and what that is; and what else is to be said.
    limits: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)

    def begin(self, case):
        if not self.is_json:
            print(f"\n{self.bench}, {case}\n{header(self.columns)}", flush=True)

    def add(self, case, number_of_run, result):
        self.results.append({"bench": self.bench, "case": case, "run": number_of_run, **result})
        print(json.dumps(self.results[-1]) if self.is_json else line(self.results[-1], self.columns), flush=True)

    def remark(self, words):
        self.remarks.append(words)
        print(words, file=sys.stderr if self.is_json else sys.stdout, flush=True)

    def conclude(self):
        """Says the medians and the goals."""
        if self.is_json:
            return
        print("\nmedians, and how many runs they are of:")
        for case in self.cases():
            print(f"{case}\n{header(self.shown())}")
            for row in self.rows(case):
                print(" ".join(f"{show(row):>{width}}" for _, width, show in self.shown()))
        for goal in self.goals:
            words, value, floor, aim, verdict = goal.cells()
            print(f"{words}: {value} (floor {floor}, aim {aim}): {verdict}")

    def shown(self):
        """The columns of a table of medians."""
        return [*self.columns, AGAINST, ("runs", 14, runs)]

    def cases(self):
        return list(dict.fromkeys(one["case"] for one in self.results))

    def rows(self, case):
        """Medians, for each program of a case, in the order of the first runs."""
        programs = dict.fromkeys(one["program"] for one in self.results if one["case"] == case)
        ours = self.median(case, OURS)
        return [self.row(case, program, ours) for program in programs]

    def row(self, case, program, ours):
        runs = [one for one in self.results if (one["case"], one["program"]) == (case, program)]
        good, quiet = select(runs)
        counts = {"used": len(quiet), "of": len(runs), "is_disturbed": any(one["disturbed"] for one in quiet)}
        found = {"program": program, **counts, **median(quiet)}
        # What never came to its end has a rate all the same.
        if not good:
            found |= median(runs)
        return found | {"ours_over_it": ratio(ours, found.get(self.figure))}

    def median(self, case, program, figure=None):
        """Of a program's good runs; nothing when it has none."""
        runs = [one for one in self.results if (one["case"], one["program"]) == (case, program)]
        good, quiet = select(runs)
        return median(quiet).get(figure or self.figure)

    def rate(self, case, program):
        """As the median, but of what never came to its end the rate until then."""
        runs = [one for one in self.results if (one["case"], one["program"]) == (case, program)]
        return self.median(case, program) or median(runs).get(self.figure)

    def times(self, case, program):
        """Our rate over that of another program."""
        return ratio(self.median(case, OURS), self.rate(case, program))

    def times_best(self, case, but=()):
        """Our rate over the best of the others that give away files."""
        others = {one["program"] for one in self.results if one["case"] == case} - {OURS, *but}
        rates = [rate for rate in (self.rate(case, one) for one in others) if rate]
        return ratio(self.median(case, OURS), max(rates, default=None))

    def exit_code(self):
        """Ours has to give all there is, and nobody may give anything else. That others do not come to
        an end is a result."""
        failed = [one for one in self.results if one["program"] == OURS and not one["intact"]]
        wrong = [one for one in self.results if one["complete"] and not one["intact"]]
        return 1 if failed or wrong else 0


def select(runs):
    """Those in which all went well, and those of them that medians are of: the undisturbed ones, as far
    as there are any."""
    good = [one for one in runs if one["complete"] and one["intact"]]
    return good, [one for one in good if not one["disturbed"]] or good


def runs(row):
    return f"{row['used']}/{row['of']}{' disturbed' if row['is_disturbed'] else ''}"


def header(columns):
    return " ".join(f"{name:>{width}}" for name, width, _ in columns)


def line(result, columns):
    if "error" in result:
        return f"{result['program']:>17} failed: {result['error'].strip().splitlines()[-1][:200]}"
    words = " ".join(f"{show(result):>{width}}" for _, width, show in columns)
    return words + "".join(f"  {one}" for one in marks(result))


def marks(result):
    """What the figures do not say."""
    if not result["complete"]:
        gave_up = result.get("gave_up_s")
        yield f"INCOMPLETE after {gave_up:.0f} s" if gave_up else "INCOMPLETE"
    elif not result["intact"]:
        yield "WRONG: what came is not what was given"
    if result["disturbed"]:
        yield f"disturbed: others took {100 * result['others_share']:.0f} % of the machine"
    if result.get("switch_missed"):
        yield f"the switch missed {result['switch_missed']} frames"
