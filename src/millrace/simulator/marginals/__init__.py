"""Realistic, shown: a log's marginal distributions beside those of real data.

What is measured is read from events alone (`collected`), never from the world's hidden truth; so any log can be put
beside the real sets, and both sides go through the same functions. Each family of quantities has a module; `real`
knows the public sets; `table` puts the two side by side.
"""
