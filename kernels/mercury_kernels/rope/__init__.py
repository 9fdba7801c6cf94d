"""From the query, key and value projection to rotated queries and a cache that holds the rest."""
