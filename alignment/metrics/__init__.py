"""Every number Oversight reports, one family a file. Plain functions on numpy arrays; no torch, no Django.

- `result`: how a number, or the reason why there is none, becomes a `records.Metric`
- `bootstrap`: percentile intervals, by item or by cluster, with an explicit seed
- `rates`: Wilson interval, attack success, over-refusal, separation (Newcombe interval)
- `agreement`: Krippendorff's alpha, share agreeing
- `error_rates`: raters' sensitivity and specificity without a known truth (Dawid-Skene)
- `calibration`: reliability bins, expected calibration error, Brier score
- `front`: hypervolume to (0, 0), alignment tax
- `gaps`: performance gap recovered, elicitation, ceiling, teacher, agreement, generator-verifier, over-optimisation
- `round_gaps`: the gaps of one round, which the schedule of the next one reads
- `estimates`: rates from samples drawn with unequal chances (1/propensity)
- `all_samples`: violation rate, critic precision and recall over all answers, doubly robust
- `efficiency`: review yield
- `discretion`: principle preferences, arbitrariness, supremacy, discrepancy

Rates lie in [0, 1]; intervals are 95 %. An empty input gives a Metric with `value` None and the reason.
The formulas are reconstructions unless a docstring names a source: both position papers that this
project follows leave them open.
"""
