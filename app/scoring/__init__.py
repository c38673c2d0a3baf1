"""One model version as it is served: /predict, /rank, the catalog, the micro-batcher and score drift."""
