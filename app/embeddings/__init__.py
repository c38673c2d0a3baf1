"""Where embedding rows come from: the hot head of the table, then Redis where given, then the table file."""
