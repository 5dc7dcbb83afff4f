"""What a recipe learns from corrected lines, and what it forgets; in process, without Ray."""
