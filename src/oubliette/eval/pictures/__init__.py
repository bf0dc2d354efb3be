"""What looks at pictures: judges, CLIP, distances, the cache of what was drawn."""
