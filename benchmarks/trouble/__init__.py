"""One kind of trouble at a time: what it is, where it is made, what is told of it."""
