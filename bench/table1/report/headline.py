"""The ratios that the paper's abstract speaks of."""

from ...rows.comparison import Comparison


def headline(comparison: Comparison) -> tuple[str, ...]:
    """Return the latency ratios of DiffBIR and SeeSR to DoSSR-5: in the paper, then here by setup."""
    rivals = {row.system: row.title for row in comparison.systems}
    named = {name: rivals[name] for name in ("diffbir-50", "seesr-50") if name in rivals}
    columns = {"Paper (V100)": {name: comparison.paper_multiple(name) for name in named}}
    for setup in () if comparison.reduced else comparison.setups:
        columns[f"Here ({comparison.label(setup)})"] = {
            name: comparison.multiple(setup, name) for name in named
        }
    return tuple(
        f"{where}: "
        + ", ".join(f"{named[n]} takes {v:.1f}×" for n, v in found.items() if v is not None)
        + " the time of DoSSR-5"
        for where, found in columns.items()
        if any(v is not None for v in found.values())
    )
