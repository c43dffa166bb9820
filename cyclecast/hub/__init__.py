"""Gives styles: a model with its card, thumbnail and hash, in a folder or on Hugging Face's hub; and reads lists of styles.

How styles are fetched: `cyclecast.runtime.remote`, because every command that runs a model accepts an address.
"""
