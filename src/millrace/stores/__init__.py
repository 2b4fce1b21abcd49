"""State folded from the log: who follows whom, what was posted, seen and done. Decides nothing about ranking."""
