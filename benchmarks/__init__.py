"""Measurements of the polling engine: what a thousand waiting tasks cost."""

from __future__ import annotations
