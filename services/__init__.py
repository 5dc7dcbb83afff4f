"""Talks to people and clients: corrections, control, schedule, promotion, console."""
