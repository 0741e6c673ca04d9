"""A benchmark in words, for a terminal."""

from rich.console import Group
from rich.table import Table

from binarch.deploy.bench import Bench
from binarch.deploy.cold import ColdStart


def tell(bench: Bench) -> Group:
    """A line per engine, then what the machine made of it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for title in ("median ms", "quartiles", "times binarch", "in the rounds"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in bench.results:
        (low, high), (least, most) = row.quartiles_ms, row.times_binarch_range
        ratios = (f"{row.times_binarch:.2f}", f"{least:.2f} - {most:.2f}") if row.engine != "binarch" else ("1", "")
        table.add_row(row.engine, f"{row.median_ms:.3f}", f"{low:.3f} - {high:.3f}", *ratios)
    skipped = [f"skipped: {entry['engine']} ({entry['reason']})" for entry in bench.skipped]
    return Group(table, "", *skipped, summary(bench))


def summary(bench: Bench) -> str:
    """Threads, batch, instruction set, pace and size on one line."""
    count = f"{bench.threads} thread{'s' * (bench.threads > 1)}, batch {bench.batch}"
    pace = (
        f"{bench.binary_macs_per_s / 1e12:.3f} T binary MACs/s, {bench.share_of_limit:.0%} of this machine's popcount "
        f"limit ({bench.popcount_limit / 1e12:.3f} T/s)"
    )
    size = f"{bench.file_bytes / 1e3:,.0f} kB packed, {bench.float_bytes / 1e3:,.0f} kB as float32"
    return f"{count}, {bench.machine['instruction_set']}; {pace}; {size}"


def tell_cold(cold: ColdStart) -> str:
    """One line."""
    return (
        f"cold start: import {cold.import_s:.2f} s, load {cold.load_s:.2f} s, first image {cold.first_run_s:.2f} s "
        f"({cold.first_run_empty_cache_s:.1f} s where nothing is compiled yet), second {cold.second_run_s * 1e3:.1f} ms"
    )
