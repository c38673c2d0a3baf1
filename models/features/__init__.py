"""Raw values to rows of the embedding table: vocabularies, the encoder, the compiled request reader."""
