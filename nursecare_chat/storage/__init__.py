"""Where photos are kept: the interface, what blobs are called, and the implementations."""
