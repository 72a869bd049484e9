"""What a reader must know to judge the figures; facts about the paper are of its Table 1."""

NOTES = (
    (
        "Protocols",
        "count: every network is built without weights; parameters and multiply-accumulates only. "
        "replay: the whole procedure of the official script runs, every step. "
        "compose: each network is timed alone, its median is multiplied by its calls, and the loop, "
        "timed around networks that do nothing, is added; no whole image was run. Such seconds "
        "carry ≈ and are compared with their like only. A network that several systems share may "
        "have been timed once; the remarks say with which.",
    ),
    (
        "Columns",
        "GMAC is 1e9 multiply-accumulates of convolutions, linear layers and matrix products, "
        "those of attention included, per image; norms and activations are not counted. Official "
        "is what the official code was found to have. p50 and p90 are percentiles over the runs "
        "(warm-up + timed), cold is the first image, loading not included; loop is what is spent "
        "outside the networks; reading and writing the image file is file I/O and no part of "
        "p50. Peak memory is of the process on a CPU, of the device on a GPU; under compose of the "
        "hungriest network, as only one is loaded at a time. Utilization is "
        "relative to this machine's own measured matrix product in the same precision. "
        "A dash is what was not measured or not printed.",
    ),
    (
        "Weights",
        "Latency does not depend on weights: the networks here are the real ones with made-up "
        "weights. MANIQA is the paper's (Real200), of the trained ones; nothing of it was measured "
        "here. The paper prints none for DoSSR-1, -3 and -7, so they are not in the figure.",
    ),
    (
        "Not comparable",
        "The paper's seconds are of a V100, ours of the machine above: compare the multiples of "
        "DoSSR-5, not the seconds, and these with care, since launches, memory traffic and "
        "half-precision units weigh differently on other machines.",
    ),
    (
        "Where the paper's rivals come from",
        "SeeClear, another NeurIPS 2024 paper, prints the same latencies to the last digit for "
        "DiffBIR, ResShift and SeeSR (Table 5; StableSR differs, 18.70 against 18.90). So "
        "the rivals' seconds were probably taken from an earlier source and not measured beside "
        "DoSSR's 1.03 s. Their rates speak for different precisions: SeeSR's 7.24 s are "
        "11.7 TMAC/s, above the 7.85 that a V100 has in float32, while DiffBIR and DoSSR fit "
        "float32. The paper states neither precision nor warm-up, batch or file I/O.",
    ),
    (
        "Precision of the official scripts",
        "Real-ESRGAN runs in float16 unless told otherwise, StableSR under float16 autocast, "
        "ResShift and SeeSR in float16 (SeeSR's tagger in float32); BSRGAN, LDL, DASR, DiffBIR "
        "(version 1) and DoSSR in float32. Here every system of a table has the precision that "
        "its heading names.",
    ),
)
"""Heading and text."""
