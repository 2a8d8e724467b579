"""The HTTP gateway: the JSON face of the method table, from the contract's annotations."""
