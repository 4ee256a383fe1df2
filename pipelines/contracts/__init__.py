"""Contracts: which fields an event has, and what makes a record valid."""
