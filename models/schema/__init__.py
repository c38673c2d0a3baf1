"""What a log's columns mean: label, split and fields."""
