"""Adapters: events of other systems, mapped to Reelhouse's topics and contracts."""
