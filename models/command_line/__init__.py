"""Command lines by Typer: options, errors and interrupts."""
