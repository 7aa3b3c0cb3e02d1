"""The JSON of the API, a module for each resource: what comes in, what is answered, and the translation to and from the
domain. The OpenAPI document is generated from these types, so their descriptions are the API's documentation.
"""
