"""SMS.ir: texts, and codes by a template. Two REST APIs: v1, and legacy with a customer club."""

from .sender import SmsIr

__all__ = ["SmsIr"]
