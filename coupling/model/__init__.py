"""The decoder and its adapters: layers, generation, scoring, sharding."""
