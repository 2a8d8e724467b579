"""What every call passes before and after its handler: who asks, may they, well-formed, logged."""
