"""Journal entries: each is one account move, posted.

Accounts are found by their code. Amounts are in the company's currency: an entry in another one is
refused, since Holdfast has no rate for it.
"""
from decimal import Decimal

from trytond.pool import Pool

from . import claim
from .body import of_entry
from .problem import Rejection

PART = 'holdfast.entry'
ID = 'entry_id'
SAYS = claim.ENTRY_SAYS


class Entry:
    "An entry whose names were found."

    def __init__(self, part, postings, period, date):
        self.description = f"Holdfast {part.get('kind') or 'entry'}"
        # Account, tax code, amount in minor units.
        self.postings = postings
        self.period = period
        self.date = date


def prepare(body, fresh, company, date):
    "The new entries that can be applied; the others are rejected."
    read = {}
    for id_ in fresh:
        try:
            check_currency(body.parts[id_].get('currency'), company)
            read[id_] = of_entry(body.parts[id_])
        except Rejection as e:
            body.rejections[id_] = e
    codes = {code for postings in read.values() for code, *_ in postings}
    accounts = find_accounts(codes, company)
    period = find_period(company, date)
    party = Pool().get('holdfast.settings')(1).party
    ready = {}
    for id_, postings in read.items():
        try:
            check_period(period, date)
            named = [
                (account(accounts, code, date, party), tax_code, amount)
                for code, tax_code, amount in postings]
            ready[id_] = Entry(body.parts[id_], named, period, date)
        except Rejection as e:
            body.rejections[id_] = e
    return ready


def columns(part, company, entry):
    "What the row of an entry says, beside its ids."
    def text(name):
        value = part.get(name)
        return value[:200] if isinstance(value, str) else None

    def integer(name):
        value = part.get(name)
        return value if type(value) is int and 0 <= value < 2 ** 63 else None

    return {
        'kind': text('kind'),
        'orders': integer('orders'),
        'first_lsn': integer('first_lsn'),
        'last_lsn': integer('last_lsn'),
        'digest': text('digest'),
        'previous_digest': text('previous_digest'),
        }


def book(entries, company):
    "Makes the moves, and posts them. An entry that posts nothing makes none."
    pool = Pool()
    Move = pool.get('account.move')
    period = next(iter(entries.values())).period
    # Posting takes this lock, and for it begins the transaction anew: better now than after the work.
    period.move_sequence_used.lock()
    settings = pool.get('holdfast.settings')(1)
    journal = settings.journal.id if settings.journal else own_journal()
    moves = Move.create([
            move_values(row, entry, company, journal, settings.party)
            for row, entry in entries.items() if entry.postings])
    Move.post(moves)


def move_values(row, entry, company, journal, party):
    unit = Decimal(1).scaleb(-company.currency.digits)
    lines = []
    for account_, tax_code, amount in entry.postings:
        lines.append({
                'account': account_.id,
                'description': tax_code or None,
                'debit': max(amount, 0) * unit,
                'credit': max(-amount, 0) * unit,
                'party': party.id if account_.party_required else None,
                })
    return {
        'company': company.id,
        'journal': journal,
        'period': entry.period.id,
        'date': entry.date,
        'description': entry.description,
        'origin': f'{PART},{row}',
        'lines': [('create', lines)],
        }


def own_journal():
    return Pool().get('ir.model.data').get_id('holdfast', 'journal_holdfast')


def find_accounts(codes, company):
    "The accounts of each code."
    found = {}
    for account_ in Pool().get('account.account').search([
                ('code', 'in', list(codes)),
                ('company', '=', company.id),
                ]):
        found.setdefault(account_.code, []).append(account_)
    return found


def account(accounts, code, date, party):
    "The one account of a code that can be posted to."
    candidates = accounts.get(code, [])
    if not candidates:
        raise Rejection('unknown_account', f"no account has the code {code!r}")
    usable = [
        a for a in candidates
        if a.type and not a.closed
        and (not a.start_date or a.start_date <= date)
        and (not a.end_date or a.end_date >= date)]
    if not usable:
        raise Rejection(
            'closed_account', f"{code!r} can't be posted to on {date}")
    if len(usable) > 1:
        raise Rejection(
            'ambiguous_account', f"{len(usable)} have the code {code!r}")
    if usable[0].party_required and not party:
        raise Rejection(
            'party_required',
            f"{code!r} needs a party, and the settings of Holdfast name none")
    return usable[0]


def find_period(company, date):
    "The period of a day."
    periods = Pool().get('account.period').search([
            ('start_date', '<=', date),
            ('end_date', '>=', date),
            ('fiscalyear.company', '=', company.id),
            ('type', '=', 'standard'),
            ], order=[('start_date', 'DESC')], limit=1)
    return periods[0] if periods else None


def check_period(period, date):
    if not period:
        raise Rejection('no_period', f"no period contains {date}")
    if period.state != 'open':
        raise Rejection('closed_period', f"{period.rec_name} is closed")


def check_currency(currency, company):
    if currency != company.currency.code:
        raise Rejection(
            'wrong_currency',
            f"the books are in {company.currency.code}, not in {currency!r}")
