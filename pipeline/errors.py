"""The errors a user can meet: one line each, that names the file, what is wrong and what to do."""

from __future__ import annotations


class ResurveyError(Exception):
    """Base of every error that is shown to a user as one line, without a traceback."""


class InputError(ResurveyError):
    """An image, a cadaster or another input file cannot be used as it is."""


class SettingsError(ResurveyError):
    """An option, a configuration file or a combination of both is wrong."""


class StoreError(ResurveyError):
    """The run's folder cannot be read or written: full, read-only, locked or damaged."""


class TileError(ResurveyError):
    """One tile cannot be computed; its reason goes into the receipt and the run goes on."""
