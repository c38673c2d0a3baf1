"""The online half: loads an artifact and answers click probabilities over HTTP. Imports ``models``, never the reverse."""
