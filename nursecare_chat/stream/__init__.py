"""Server-Sent Events: frames, doorbells, the hub, and ways of writing to a client."""
