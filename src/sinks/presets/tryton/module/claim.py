"""Exactly once: ids are claimed in the database before anything else is done for them.

Twins may run side by side. The later one fails at the unique id, keeps nothing, begins anew, and then
finds what the first one left.
"""
from sql.functions import CurrentTimestamp

from trytond import backend
from trytond.model import fields
from trytond.pool import Pool
from trytond.tools import grouped_slice
from trytond.transaction import Transaction

from .body import fingerprint
from .problem import Rejection, Twin

LINE_SAYS = ['sku', 'location', 'movement', 'quantity']
ENTRY_SAYS = ['kind', 'currency', 'postings', 'digest']


def of_ids(Part, id_name, ids, what):
    "What stands in a column of each of these ids that there is."
    table = Part.__table__()
    column = getattr(table, id_name)
    cursor = Transaction().connection.cursor()
    found = {}
    for some in grouped_slice(ids):
        cursor.execute(*table.select(
                column, getattr(table, what),
                where=fields.SQL_OPERATORS['in'](column, list(some))))
        found.update(cursor)
    return found


def sort_out(body, Part, id_name, says):
    """The parts that are new, each with its fingerprint, and how many were applied before.

    One that was applied with another content is rejected: it can't be undone by sending it again.
    """
    before = of_ids(Part, id_name, list(body.parts), 'fingerprint')
    fresh, already = {}, 0
    for id_, part in body.parts.items():
        print_ = fingerprint(part, says)
        if id_ not in before:
            fresh[id_] = print_
        elif before[id_] == print_:
            already += 1
        else:
            body.rejections[id_] = Rejection(
                'conflict', "this id was applied before with another content")
    return fresh, already


def batch_row(body, company):
    "The row of the batch, which a repeat finds and a first attempt makes."
    Batch = Pool().get('holdfast.batch')
    batch = Batch.__table__()
    cursor = Transaction().connection.cursor()
    look = batch.select(batch.id, where=batch.batch_id == body.batch_id)
    cursor.execute(*look)
    if row := cursor.fetchone():
        return row[0]
    insert(Batch, [{
                'batch_id': body.batch_id,
                'company': company.id,
                'series': body.series,
                'seal': body.seal,
                'sink': body.sink,
                'domain_': body.domain,
                'first_lsn': body.first_lsn,
                'last_lsn': body.last_lsn,
                'sealed_at': body.sealed_at.replace(tzinfo=None),
                }])
    cursor.execute(*look)
    return cursor.fetchone()[0]


def insert(Part, rows):
    """Adds rows of one shape, or tells that a twin was faster.

    Without the checks of the model: every value was checked or looked up, and they cost more than
    the rows.
    """
    transaction = Transaction()
    cursor = transaction.connection.cursor()
    table = Part.__table__()
    names = list(rows[0])
    columns = [table.create_uid, table.create_date]
    columns += [getattr(table, name) for name in names]
    for some in grouped_slice(rows, backend.MAX_QUERY_PARAMS // len(columns)):
        values = [
            [transaction.user, CurrentTimestamp()] + [r[n] for n in names]
            for r in some]
        try:
            cursor.execute(*table.insert(columns, values))
        except backend.DatabaseIntegrityError as e:
            raise Twin() from e
