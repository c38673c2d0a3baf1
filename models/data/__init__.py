"""From a log's files to encoded parts: reading, schema inference, split, token index, shards."""
