"""Tests mirror the packages; names are sentences."""
