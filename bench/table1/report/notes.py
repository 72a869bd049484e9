"""Notes on the figures; statements about the paper refer to its Table 1."""

NOTES = (
    (
        "Protocols",
        "count: networks are built without weights; parameters and multiply-accumulates only. "
        "replay: the whole procedure of the official script runs, every step. "
        "compose: each network is timed alone. Its median is multiplied by its calls, and the time "
        "of the loop with no-op networks is added; no whole image was run. Such times are marked "
        "≈ and compared only with each other. A network that several systems share may be timed "
        "once; the remarks name the system.",
    ),
    (
        "Columns",
        "GMAC: 1e9 multiply-accumulates per image of convolutions, linear layers and matrix "
        "products, including attention, without norms and activations. Official: figures from the "
        "official code. p50, p90: percentiles over the timed runs (runs: warm-up + timed). Cold: "
        "the first image, without loading. Loop: time outside the networks. File I/O: reading and "
        "writing the image file, not included in p50. Peak memory: of the process on a CPU, of the "
        "device on a GPU; under compose the largest of any network, since one is loaded at a time. "
        "Utilization: relative to the measured matrix product of this machine in the same "
        "precision. A dash: not measured or not printed.",
    ),
    (
        "Weights",
        "Latency does not depend on weights: the architectures are the real ones, with synthetic "
        "weights. MANIQA is taken from the paper (Real200, trained weights) and was not measured "
        "here. The paper prints none for DoSSR-1, -3 and -7, so the figure omits them.",
    ),
    (
        "Not comparable",
        "The paper measured on a V100, this report on the machine above: compare the ratios to "
        "DoSSR-5, not the seconds. Ratios depend on the machine too: on kernel launches, memory "
        "bandwidth and half-precision units.",
    ),
    (
        "Origin of the paper's latencies",
        "SeeClear, another NeurIPS 2024 paper, prints identical latencies for DiffBIR, ResShift "
        "and SeeSR (Table 5; StableSR differs, 18.70 and 18.90). The latencies of the other "
        "systems were therefore probably taken from an earlier source, not measured together with "
        "DoSSR's 1.03 s. Their rates suggest different precisions: SeeSR's 7.24 s are "
        "11.7 TMAC/s, above the 7.85 of a V100 in float32, while DiffBIR and DoSSR fit "
        "float32. The paper states neither precision nor warm-up, batch size or file I/O.",
    ),
    (
        "Precision of the official scripts",
        "Real-ESRGAN runs in float16 by default, StableSR under float16 autocast, ResShift and "
        "SeeSR in float16 (SeeSR's tagger in float32); BSRGAN, LDL, DASR, DiffBIR (version 1) and "
        "DoSSR in float32. Here every system of a table has the precision in its heading.",
    ),
)
"""Headings and texts."""
