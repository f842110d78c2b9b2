"""Trains the small model that edgellama brings along; see README.md beside this file. Not installed."""
