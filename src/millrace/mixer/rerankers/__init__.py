"""Order with the other candidates in view: what belongs on one page together."""
