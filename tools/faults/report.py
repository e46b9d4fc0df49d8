"""What a run found, as a table and as JSON."""

import json

from ledger import percentile


def milliseconds(seconds):
    """A time for people."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def spread(values):
    """Median, 99th percentile and maximum of sorted seconds."""
    return {"n": len(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99),
            "max": values[-1] if values else None}


def show(figures):
    """Prints the figures of a run."""
    print(f"\n== {figures['fault']}, {figures['seconds']} s, {figures['database']}, {figures['network']}")
    for name, value in figures["counts"].items():
        print(f"{name:>42}  {value}")
    print(f"{'settled after':>42}  {milliseconds(figures['settled'])}")
    for when in ("before", "during", "after"):
        for server, times in figures["latency"][when].items():
            print(f"{'sends to ' + server + ', ' + when:>42}  {times['n']} at p50 {milliseconds(times['p50'])},"
                  f" p99 {milliseconds(times['p99'])}, max {milliseconds(times['max'])}")
        times = figures["delay"][when]
        print(f"{'from server to server, ' + when:>42}  {times['n']} at p50 {milliseconds(times['p50'])},"
              f" p99 {milliseconds(times['p99'])}, max {milliseconds(times['max'])}")
    for server, usage in figures["usage"].items():
        print(f"{server:>42}  CPU {usage['cpu_before']:.2f} before, {usage['cpu_during']:.2f} during; memory"
              f" {usage['memory_before']:.0f} MiB before, {usage['memory_during']:.0f} during,"
              f" {usage['memory_after']:.0f} after; {usage['starts']} starts")
    print(f"{'requests':>42}  {figures['requests']['made']}, failed: {figures['requests']['failed'] or 'none'}")
    for note in figures["notes"]:
        print(f"{'note':>42}  {note}")
    for wrong in figures["wrong"]:
        print(f"{'WRONG':>42}  {wrong}")
    print(f"{'':>42}  {'all invariants hold' if not figures['wrong'] else 'INVARIANTS BROKEN'}", flush=True)


def write(path, figures):
    """Appends the figures to a file, one run a line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")
