"""Training a model on real images: ingest in chunks, augment for each epoch, train, evaluate."""
