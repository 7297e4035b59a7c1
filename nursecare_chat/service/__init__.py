"""The rules: no request, no response, no Flask."""
