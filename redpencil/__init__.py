"""The language of Redpencil: nouns, rules and stores, free of torch, ray and fastapi."""
