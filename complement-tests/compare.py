#!/usr/bin/env python3
"""Compares a run of Complement with results.tsv.

Reads the output of `go test -json` from standard input. Prints for each package how many leaves passed, failed, were
skipped or did not start, and which tests differ from the table. A leaf is a test without subtests of its own, here and
in the table: where a test died before its subtests began, they count as not started.

Ends with 1 if a test that the table lists as passing does not pass.
"""

import argparse
import csv
import json
import pathlib
import sys

TABLE = pathlib.Path(__file__).with_name("results.tsv")
COLUMNS = ["package", "test", "result", "reason"]
ENDS = {"pass", "fail", "skip"}
NOT_STARTED = "-"


def short(package):
    """The package's path inside Complement."""
    return package[package.find("tests") :]


def read_run(lines):
    """The result of each test, by package and name; and the packages that ended."""
    tests, packages = {}, {}
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        package = short(event.get("Package", ""))
        action, test = event.get("Action"), event.get("Test")
        if test and action == "run":
            # What begins and never ends was cut off by a time limit or a panic.
            tests.setdefault((package, test), "fail")
        elif action in ENDS:
            if test:
                tests[package, test] = action
            else:
                packages[package] = action
    return tests, packages


def read_table():
    """The table's rows, by package and name."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(row["package"], row["test"]): row for row in rows}


def leaves(names):
    """Those names that are no parent of another one."""
    parents = set()
    for package, test in names:
        while "/" in test:
            test = test.rsplit("/", 1)[0]
            parents.add((package, test))
    return sorted(set(names) - parents)


def count(found):
    """Prints the counts for each package, and for all."""
    order = ["pass", "fail", "skip", NOT_STARTED]
    print(f"{'':20}{'pass':>7}{'fail':>7}{'skip':>7}{'not started':>13}{'leaves':>8}")
    total = [0] * len(order)
    for package in sorted({package for package, _ in found}):
        results = [result for (its, _), result in found.items() if its == package]
        counts = [results.count(result) for result in order]
        total = [a + b for a, b in zip(total, counts)]
        print_counts(package, counts)
    print_counts("all", total)


def print_counts(name, counts):
    a, b, c, d = counts
    print(f"{name:20}{a:7}{b:7}{c:7}{d:13}{sum(counts):8}")


def show(title, rows):
    if rows:
        print(f"\n{title} ({len(rows)}):")
        for row in rows:
            print("  " + "  ".join(row))


def write(found, table):
    """Writes the table anew. Reasons stay with what still does not pass."""
    with TABLE.open("w") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for key, result in sorted(found.items()):
            result = "fail" if result == NOT_STARTED else result
            reason = "" if result == "pass" else table.get(key, {}).get("reason") or ""
            file.write("\t".join([*key, result, reason]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="store_true", help="only some tests were asked for: look at those alone")
    parser.add_argument("--write", action="store_true", help="write the run's results into the table")
    options = parser.parse_args()

    tests, packages = read_run(sys.stdin)
    table = read_table()
    ran = {(package, test.split("/")[0]) for package, test in tests}
    known = [(p, t) for p, t in table if not options.part or (p, t.split("/")[0]) in ran]
    found = {key: tests.get(key, NOT_STARTED) for key in leaves([*tests, *known])}

    count(found)
    was = {key: table[key]["result"] if key in table else None for key in found}
    worse = [(*key, found[key]) for key in found if was[key] == "pass" and found[key] != "pass"]
    better = [key for key in found if was[key] in ("fail", "skip") and found[key] == "pass"]
    new = [(*key, found[key]) for key in found if was[key] is None]
    ended = {package for package, _ in tests}
    show("Packages without a test", [(p, r) for p, r in packages.items() if p not in ended and r == "fail"])
    show("Passes now", better)
    show("Not in the table", new)
    show("Listed as passing, and does not pass", worse)

    if options.write:
        if options.part:
            sys.exit("the table is written from whole runs only")
        write(found, table)
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
