"""Chatting with a model: templates and their sandbox, messages, tools and calls, conversations.

From messages to a prompt: `messages` checks them, `template` chooses how they are written out, `sandbox` renders it.
From an answer to calls: `tool_calls`. Only the sandbox imports Jinja, and the first prompt imports the sandbox.
"""
