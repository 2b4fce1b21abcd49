"""Views over the tables for what operators ask most; docs/warehouse.md shows each with its query and a result.

Names and columns are an interface: queries of people's own stand on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class View:
    """A named query.

    Attributes
    ----------
    name, what
        The view, and what it answers.
    query
        Over tables and earlier views.
    example
        A query that uses it.
    """

    name: str
    what: str
    query: str
    example: str


VIEWS: Final = (
    View(
        "users",
        "every user as of the newest snapshot",
        "SELECT * EXCLUDE (dt) FROM user_profile WHERE dt = (SELECT max(dt) FROM user_profile)",
        "SELECT user_group, count(*) AS n_users FROM users GROUP BY ALL ORDER BY ALL",
    ),
    View(
        "creators",
        "every author as of the newest snapshot",
        "SELECT * EXCLUDE (dt) FROM creator_tiers WHERE dt = (SELECT max(dt) FROM creator_tiers)",
        "SELECT tier, count(*) AS n_creators, sum(n_followers) AS n_followers FROM creators GROUP BY ALL ORDER BY ALL",
    ),
    View(
        "reaction_by_user_group",
        "what new, casual and active users did with what they saw, by day; groups as of that day",
        """SELECT i.dt, coalesce(u.user_group, 'unknown') AS user_group, count(DISTINCT i.viewer_id) AS n_viewers,
    count(*) AS n_seen, avg(watch_s) AS watch_s_mean, avg(is_short_view::INTEGER) AS short_view_frac,
    avg(is_valid_view::INTEGER) AS valid_view_frac, avg(likes) AS likes_per_look, avg(replies) AS replies_per_look,
    avg(reposts) AS reposts_per_look, avg(negatives) AS negatives_per_look
FROM interactions i LEFT JOIN user_profile u ON u.user_id = i.viewer_id AND u.dt = i.dt
WHERE is_seen GROUP BY ALL ORDER BY ALL""",
        "SELECT * FROM reaction_by_user_group WHERE dt = (SELECT max(dt) FROM interactions)",
    ),
    View(
        "exposure_by_creator_tier",
        "how served places and looks are shared among creators, by day and tier of the day",
        """SELECT *, n_served / nullif(sum(n_served) OVER (PARTITION BY dt), 0) AS served_share FROM (
    SELECT i.dt, coalesce(c.tier, 'unknown') AS tier, count(DISTINCT coalesce(i.author_id, p.author_id)) AS n_authors,
        count(*) FILTER (is_served) AS n_served, count(*) FILTER (is_seen) AS n_seen,
        avg(likes) FILTER (is_seen) AS likes_per_look
    FROM interactions i LEFT JOIN (SELECT post_id, author_id FROM post_metadata) p USING (post_id)
        LEFT JOIN creator_tiers c ON c.author_id = coalesce(i.author_id, p.author_id) AND c.dt = i.dt
    GROUP BY ALL) ORDER BY dt, tier""",
        "SELECT tier, n_authors, n_served, served_share FROM exposure_by_creator_tier "
        "WHERE dt = (SELECT max(dt) FROM requests)",
    ),
    View(
        "reaction_by_arm",
        "pages and reactions by each value of each param that somebody set, and who set it (config, experiment, "
        "degradation), beside the pages of that day and pipeline that kept the default. No assignment is logged yet: "
        "only arms that differ in a param are told apart, without intervals",
        """WITH arms AS (SELECT r.dt, r.request_id, r.viewer_id, s.param, r.params[s.param] AS value,
    CASE WHEN value IS NULL THEN 'default' ELSE coalesce(r.param_levels[s.param], '') END AS level
    FROM requests r JOIN (SELECT DISTINCT dt, pipeline, unnest(map_keys(params)) AS param FROM requests) s
        USING (dt, pipeline))
SELECT a.dt, a.param, a.value, a.level,
    count(DISTINCT a.request_id) AS n_requests, count(DISTINCT a.viewer_id) AS n_viewers,
    count(*) FILTER (i.is_seen) AS n_seen, avg(i.watch_s) FILTER (i.is_seen) AS watch_s_mean,
    avg(i.likes) FILTER (i.is_seen) AS likes_per_look, avg(i.negatives) FILTER (i.is_seen) AS negatives_per_look
FROM arms a LEFT JOIN interactions i ON i.request_id = a.request_id AND i.viewer_id = a.viewer_id
GROUP BY ALL ORDER BY ALL""",
        "SELECT param, value, level, n_requests, watch_s_mean FROM reaction_by_arm",
    ),
    View(
        "ctr_by_hour_source",
        "of what a source found and was served, what was seen and clicked, by hour; a post of two sources counts twice",
        """SELECT *, n_acted / nullif(n_seen, 0) AS action_frac, n_clicked / nullif(n_seen, 0) AS ctr FROM (
    SELECT dt, hour, source, count(*) AS n_served, count(*) FILTER (is_seen) AS n_seen,
        count(*) FILTER (is_seen AND clicks > 0) AS n_clicked, count(*) FILTER (
            is_seen AND clicks + likes + replies + reposts + quotes + shares + bookmarks > 0) AS n_acted
    FROM (SELECT *, unnest(sources) AS source FROM interactions WHERE is_served) GROUP BY ALL) ORDER BY ALL""",
        "SELECT source, sum(n_served) AS n_served, sum(n_acted) / sum(n_seen) AS action_frac FROM ctr_by_hour_source "
        "GROUP BY ALL ORDER BY n_served DESC, source",
    ),
    View(
        "retention",
        "of the users who were active on a day, the share that was active again 1 to 7 days later; of later days that "
        "are over, those on which nobody came back among them",
        """WITH active AS (SELECT DISTINCT user_id, dt FROM user_post_day),
sizes AS (SELECT dt, count(*) AS n_users FROM active GROUP BY dt),
later AS (SELECT dt, n_users, days_later FROM sizes CROSS JOIN (SELECT unnest(range(1, 8)) AS days_later)
    WHERE dt + days_later::INTEGER < (SELECT max(dt) FROM active)),
returned AS (SELECT a.dt, b.dt - a.dt AS days_later, count(*) AS n_returned
    FROM active a JOIN active b ON b.user_id = a.user_id AND b.dt - a.dt BETWEEN 1 AND 7 GROUP BY ALL)
SELECT dt, n_users, days_later, coalesce(n_returned, 0) AS n_returned,
    coalesce(n_returned, 0) / n_users AS returned_frac
FROM later LEFT JOIN returned USING (dt, days_later) ORDER BY ALL""",
        "SELECT * FROM retention WHERE days_later = 1",
    ),
    View(
        "model_versions",
        "pages by the versions of the models that they were made with: reactions side by side, by day",
        """SELECT r.dt, coalesce(array_to_string(list_sort(list_transform(map_entries(r.models),
    lambda m: m.key || '=' || m.value)), ', '), '') AS models, count(DISTINCT r.request_id) AS n_requests,
    count(DISTINCT r.viewer_id) AS n_viewers, count(*) FILTER (i.is_seen) AS n_seen,
    avg(i.watch_s) FILTER (i.is_seen) AS watch_s_mean, avg(i.likes) FILTER (i.is_seen) AS likes_per_look,
    avg(i.negatives) FILTER (i.is_seen) AS negatives_per_look
FROM requests r LEFT JOIN interactions i ON i.request_id = r.request_id AND i.viewer_id = r.viewer_id
GROUP BY ALL ORDER BY ALL""",
        "SELECT models, n_requests, n_seen, watch_s_mean, likes_per_look FROM model_versions",
    ),
)
