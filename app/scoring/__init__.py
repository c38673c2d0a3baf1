"""One model version as it is served: /predict, /rank, /explain, the catalog, the micro-batcher and score drift."""
