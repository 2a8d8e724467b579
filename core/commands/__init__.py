"""The commands of `dripstone` and what they share; `core.__main__` mounts them."""
