"""What several runs have in common, and how numbers are shown."""

import statistics


def median(runs):
    """Of each number that runs have, where they have it."""
    names = {name for run in runs for name, value in run.items() if is_number(value)}
    values = {name: [run[name] for run in runs if run.get(name) is not None] for name in names}
    return {name: statistics.median(some) for name, some in values.items()}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(run, name, digits, factor=1):
    value = run.get(name)
    return "-" if value is None else f"{factor * value:.{digits}f}"


def ratio(value, of):
    return value / of if value is not None and of else None
