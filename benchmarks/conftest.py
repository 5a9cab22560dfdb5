"""Print the benchmarks as a Markdown table of ratios, ready for README."""

import pytest
from jaxtyping import config as jaxtyping_config


@pytest.fixture(autouse=True)
def no_type_checks():
    """Time what users run: the checks of types and shapes belong to the tests."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter, config):
    """Write one row for each way of doing a task: its time over that of the first way, which is ours."""
    rows = ["| task | way | time, ours = 1 |", "| --- | --- | --- |"]
    first: dict[str, float] = {}
    for bench in config._benchmarksession.benchmarks:
        # The minimum: whatever else the machine does only ever adds.
        ours = first.setdefault(bench.group, bench.stats.min)
        rows.append(f"| {bench.group} | {bench.extra_info['way']} | {bench.stats.min / ours:.1f} |")
    terminalreporter.write_line("\n" + "\n".join(rows))
