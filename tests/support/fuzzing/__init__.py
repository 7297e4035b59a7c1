"""Requests that are made from the OpenAPI document, one after the other along its links, and what is asked of answers."""
