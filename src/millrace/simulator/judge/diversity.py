"""What pages are made of: topics, authors, ages, where posts came from, and what must not have been there."""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from millrace.simulator.judge.intervals import Estimate, as_share, mean_by, ratio_by
from millrace.simulator.judge.tables import HOUR_MS, RULES, table
from millrace.simulator.records import RunRecords

AGE_QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)


class BrokenRule(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule was broken: posts in all, pages with one, and posts per 1,000 served, by viewer."""

    n_posts: int
    n_pages: int
    per_1000: Estimate


class Diversity(msgspec.Struct, frozen=True, kw_only=True):
    """What pages are made of.

    Attributes
    ----------
    topic_entropy_bits
        Mean over pages of the entropy of the page's topics.
    distinct_topics, distinct_authors
        Mean per page.
    author_frac
        Distinct authors over posts: 1 where nobody is twice on a page.
    age_h
        Quantiles (`AGE_QUANTILES`, by name such as ``"0.5"``) of the served posts' age, in hours.
    in_network_frac
        Share of served posts whose author the viewer follows.
    source_frac
        By source: share of served posts that it found. Several may have found one post: the sum may exceed 1.
    repeated_frac
        Share of served posts that the viewer had been shown before.
    items_per_page, empty_frac
        Posts per page, and the share of pages without any.
    degraded_frac
        Share of pages on which a component failed or was late.
    rules
        By name of `millrace.simulator.judge.tables.RULES`.
    """

    n_pages: int
    n_items: int
    topic_entropy_bits: Estimate
    distinct_topics: Estimate
    distinct_authors: Estimate
    author_frac: Estimate
    age_h: dict[str, float]
    in_network_frac: Estimate
    source_frac: dict[str, float]
    repeated_frac: Estimate
    items_per_page: Estimate
    empty_frac: Estimate
    degraded_frac: Estimate
    rules: dict[str, BrokenRule]


def diversity(records: RunRecords) -> Diversity:
    """Return what a run's pages were made of, with intervals by viewer."""
    items = table(records, "items")
    pages = table(records, "pages").with_columns(is_empty=pl.col("n_items") == 0, is_degraded=pl.col("n_outcomes") > 0)
    mixed = page_mix(items)
    return Diversity(
        n_pages=len(pages),
        n_items=len(items),
        topic_entropy_bits=mean_by(mixed, "topic_entropy_bits"),
        distinct_topics=mean_by(mixed, "n_topics"),
        distinct_authors=mean_by(mixed, "n_authors"),
        author_frac=ratio_by(mixed, "n_authors", "n"),
        age_h={
            f"{q:g}": float(age_ms) / HOUR_MS
            for q in AGE_QUANTILES
            if (age_ms := items["age_ms"].quantile(q, "linear")) is not None
        },
        in_network_frac=as_share(mean_by(items, "is_followed")),
        source_frac=source_shares(records),
        repeated_frac=as_share(ratio_by(pages, "n_repeated", "n_items")),
        items_per_page=mean_by(pages, "n_items"),
        empty_frac=as_share(mean_by(pages, "is_empty")),
        degraded_frac=as_share(mean_by(pages, "is_degraded")),
        rules=broken_rules(records),
    )


def page_mix(items: pl.DataFrame) -> pl.DataFrame:
    """Return one row per page with posts: ``viewer``, ``n``, ``n_topics``, ``n_authors``, ``topic_entropy_bits``."""
    topics = (
        items.group_by("page", "topic")
        .agg(n_topic=pl.len())
        .with_columns(share=pl.col("n_topic") / pl.col("n_topic").sum().over("page"))
        .group_by("page")
        # The sum of nothing but certainty is minus zero; the absolute value makes it zero.
        .agg(topic_entropy_bits=(-(pl.col("share") * pl.col("share").log(2)).sum()).abs(), n_topics=pl.len())
    )
    authors = items.group_by("page").agg(pl.col("viewer").first(), n=pl.len(), n_authors=pl.col("author").n_unique())
    return authors.join(topics, on="page").sort("page")


def source_shares(records: RunRecords) -> dict[str, float]:
    """Return by source the share of served posts that it found; empty where nothing was served."""
    items = table(records, "items")
    if items.is_empty():
        return {}
    bits = items.select(
        ((pl.col("sources") // 2**bit) % 2).mean().alias(name) for bit, name in enumerate(records.meta.sources)
    )
    return {name: float(bits[name][0]) for name in records.meta.sources}


def broken_rules(records: RunRecords) -> dict[str, BrokenRule]:
    """Return by rule how often it was broken."""
    pages = table(records, "pages")
    return {
        rule: BrokenRule(
            n_posts=int(pages[f"n_{rule}"].cast(pl.Int64).sum()),
            n_pages=int((pages[f"n_{rule}"] > 0).sum()),
            per_1000=ratio_by(pages.with_columns(pl.col(f"n_{rule}") * 1000.0), f"n_{rule}", "n_items"),
        )
        for rule in RULES
    }
