"""Receives Holdfast's batches in Tryton: stock moves, journal entries, and what is read back.

What it promises:

- A batch is one transaction: all of it is in the books, or nothing.
- A line (or entry) has its effect once, whatever batch brings it, and however often: its id is
  unique in the database.
- A bad line is named, with its reason.

The calls are described in Holdfast's docs/erp-tryton.md.
"""
