"""The streaming feature pipeline: aggregates and sequences as events arrive, partitioned by key."""
