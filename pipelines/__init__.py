"""Reelhouse: a Spark Structured Streaming lakehouse for media-streaming services."""
