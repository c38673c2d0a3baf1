"""Where embedding rows come from: the hot head of the table, Redis where given, the table file."""
