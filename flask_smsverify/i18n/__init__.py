"""Every text and format that depends on a language: pages, code texts and problems.

A language is a catalogue in `translations/`. Adding one needs no change to the code.
"""
