"""The judge: pure functions from a run's records to what was right and wrong with its feed, against the known truth.

`utility` says how well people were served, `regret` which stage lost what, `calibration` whether predictions are true,
`learned` how much of the truth learned predictions have found,
`exposure` whether creators are heard, `learning` how soon newcomers are understood, `diversity` what pages are made of,
`compare` what a change did (by twin worlds and by a naive A/B test), `stages` whom to blame, `aa` whether the tests of
significance are honest, and `report` writes it all down. Nothing here runs a world or a feed.
"""
