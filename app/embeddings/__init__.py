"""Where embedding rows come from: the pinned head in the process, then Redis where given, then the table file."""
