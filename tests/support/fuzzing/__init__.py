"""Requests that are made from the OpenAPI document, alone and along its links, and what is asked of the answers."""
