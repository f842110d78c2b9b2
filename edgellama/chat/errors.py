"""What can be wrong with a chat: its template, its messages, its tools."""

from ..errors import EdgellamaError


class TemplateError(EdgellamaError):
    """A chat template that cannot be used, or does not render these messages."""


class TemplateLimitError(TemplateError):
    """A chat template that asks for more steps, memory or time than a template may have."""


class TemplateRaisedError(TemplateError):
    """A chat template that itself refused the messages, with `raise_exception`."""


class MessageError(EdgellamaError):
    """Messages that are not in the shape of OpenAI's API; the sentence names the message's index."""


class ToolError(EdgellamaError):
    """Tools that are not in the shape of OpenAI's API; the sentence names the tool's index."""
