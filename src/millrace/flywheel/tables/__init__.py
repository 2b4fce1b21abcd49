"""Tables made of the warehouse's events: facts, interactions, users, posts, creators. See docs/warehouse.md."""
