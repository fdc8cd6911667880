"""Reads the body of a batch, as Holdfast's HTTP contract has it.

Members that are not known are ignored; of those that are, each is checked.
"""
import datetime
import hashlib
import json
import re

from .problem import Problem, Rejection

PARTS_MAX = 10_000
QUANTITY_MAX = 10 ** 12
AMOUNT_MAX = 10 ** 15
ID_CHARS_MAX = 200
# erp-3f9c-000123, and for a part of it erp-3f9c-000123.b.a
BATCH_ID = re.compile(r'(?P<series>.+)-(?P<seal>[0-9]{1,18})(\.[0-9a-z]+)*')


class Body:
    "The head of a batch, and its parts as they came."

    def __init__(self, head, parts, part_id):
        self.batch_id = text(head, 'batch_id')
        self.domain = text(head, 'domain')
        self.sink = text(head, 'sink', None)
        self.first_lsn = integer(head, 'first_lsn', None)
        self.last_lsn = integer(head, 'last_lsn', None)
        self.sealed_at = instant(head, 'sealed_at')
        self.parts = {}
        self.rejections = {}
        for part in parts:
            self._add(part, part_id)

    def _add(self, part, part_id):
        if not isinstance(part, dict):
            raise malformed("a line is not an object")
        id_ = text(part, part_id)
        if id_ in self.parts:
            raise malformed(f"{part_id} {id_!r} stands twice")
        self.parts[id_] = part

    @property
    def series(self):
        match = BATCH_ID.fullmatch(self.batch_id)
        return match['series'] if match else None

    @property
    def seal(self):
        match = BATCH_ID.fullmatch(self.batch_id)
        return int(match['seal']) if match else None


def read(data):
    "The body of a request, or a Problem."
    try:
        head = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise malformed(f"the body is no JSON: {e}") from e
    if not isinstance(head, dict):
        raise malformed("the body is not an object")
    names = {
        'inventory': ('lines', 'line_id'),
        'finance': ('entries', 'entry_id'),
        }.get(head.get('domain'))
    if names is None:
        raise malformed("domain is neither inventory nor finance")
    parts, part_id = names
    parts = head.get(parts)
    if not isinstance(parts, list) or len(parts) > PARTS_MAX:
        raise malformed(
            f"{names[0]} is not a list of at most {PARTS_MAX}")
    return Body(head, parts, part_id)


def _no_constant(word):
    raise ValueError(f"{word} is no number")


def malformed(detail):
    return Problem(400, 'malformed', detail)


_REQUIRED = object()


def text(members, name, default=_REQUIRED):
    value = members.get(name, default)
    if value is default and default is not _REQUIRED:
        return default
    if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX:
        raise malformed(
            f"{name} is not a text of 1 to {ID_CHARS_MAX} characters")
    return value


def integer(members, name, default=_REQUIRED):
    value = members.get(name, default)
    if value is default and default is not _REQUIRED:
        return default
    if type(value) is not int or not 0 <= value < 2 ** 63:
        raise malformed(f"{name} is not an integer from 0")
    return value


def instant(members, name):
    value = text(members, name)
    try:
        at = datetime.datetime.fromisoformat(value.replace('Z', '+00:00'))
    except ValueError as e:
        raise malformed(f"{name} is no time: {value!r}") from e
    if at.tzinfo is None or not 1970 <= at.year <= 9998:
        raise malformed(f"{name} is no time in UTC: {value!r}")
    return at.astimezone(datetime.timezone.utc)


def of_line(part):
    "SKU, location, movement and quantity of a line, or a Rejection."
    for name in ('sku', 'location', 'movement'):
        value = part.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX:
            raise Rejection('malformed', f"{name} is no text")
    quantity = part.get('quantity')
    if type(quantity) is not int or abs(quantity) > QUANTITY_MAX:
        raise Rejection(
            'malformed', f"quantity is no integer of at most {QUANTITY_MAX}")
    if not quantity:
        raise Rejection('malformed', "quantity is zero")
    return part['sku'], part['location'], part['movement'], quantity


def of_entry(part):
    """Account, tax code and amount (debit positive, in minor units) of each posting of an entry.

    An entry that does not add up to nothing is a Rejection.
    """
    postings = part.get('postings')
    if not isinstance(postings, list) or len(postings) > PARTS_MAX:
        raise Rejection('malformed', "postings is no list")
    read = [_posting(posting) for posting in postings]
    if surplus := sum(amount for _, _, amount in read):
        raise Rejection(
            'unbalanced',
            f"debits less credits are {surplus} minor units")
    return [posting for posting in read if posting[2]]


def _posting(posting):
    if not isinstance(posting, dict):
        raise Rejection('malformed', "a posting is not an object")
    account = posting.get('account')
    if not isinstance(account, str) or not 0 < len(account) <= ID_CHARS_MAX:
        raise Rejection('malformed', "account is no text")
    tax_code = posting.get('tax_code') or ''
    if not isinstance(tax_code, str) or len(tax_code) > ID_CHARS_MAX:
        raise Rejection('malformed', "tax_code is no text")
    sides = [posting.get(side, 0) for side in ('debit', 'credit')]
    for amount in sides:
        if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
            raise Rejection(
                'malformed',
                "debit and credit are integers of minor units from 0 to "
                f"{AMOUNT_MAX}")
    return account, tax_code, sides[0] - sides[1]


def fingerprint(part, names):
    "A digest of what a line or entry says, so that one id never means two things."
    said = json.dumps(
        [part.get(name) for name in names], sort_keys=True,
        separators=(',', ':'))
    return hashlib.sha256(said.encode()).hexdigest()[:32]
