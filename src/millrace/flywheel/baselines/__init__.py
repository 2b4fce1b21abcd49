"""What needs no network: baselines that stand beside learned models, fitted and judged as these are.

One protocol to rank: a `Fit` takes samples, the slates to learn from and those to calibrate on, and returns what
predicts P(action) for the rows of other slates. One protocol to retrieve: a `Scorer` scores posts for viewers of whom
the history is known. `fits` lists them all.
"""
