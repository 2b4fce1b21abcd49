"""The framework: columns, batches, query, stage contracts, `execute()`, outcomes. Knows no post, model or socket."""
