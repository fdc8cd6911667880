"""Stock as Tryton has it, and what Holdfast has sold of it that has not left yet.

`on_hand` is the sum of all stock moves that are done, whoever made them. `committed` is what was
sold, less what was shipped and called off.
"""
from sql import Cast, Literal, Union
from sql.aggregate import Sum
from sql.conditionals import Case

from trytond.model import ModelSQL, ModelView, fields
from trytond.pool import Pool
from trytond.transaction import Transaction

from . import places
from .batch import COMMITS


class Position(ModelSQL, ModelView):
    __name__ = 'holdfast.position'

    product = fields.Many2One('product.product', "Product", readonly=True)
    location = fields.Many2One('stock.location', "Location", readonly=True)
    on_hand = fields.Float("On Hand", readonly=True)
    committed = fields.Integer("Committed", readonly=True)

    @classmethod
    def table_query(cls):
        "One row for each product and storage location that anything happened to."
        company = Transaction().context.get('company', -1)
        flows = Union(*flow_queries(company), all_=True)
        # Unlike a row's number it stays the same from one question to the next.
        id_ = Cast(flows.product, 'BIGINT') * 2 ** 21 + flows.location
        stamps = [Literal(None).as_(name) for name in [
                'create_uid', 'create_date', 'write_uid', 'write_date']]
        return flows.select(
            id_.as_('id'), *stamps, flows.product, flows.location,
            Sum(flows.on_hand).as_('on_hand'),
            # PostgreSQL adds up to a decimal number.
            Cast(Sum(flows.committed), 'BIGINT').as_('committed'),
            group_by=[flows.product, flows.location])


def flow_queries(company, products=None):
    """What adds to a position: moves in, moves out, and what is committed.

    `products` limits them to the products between two ids, the first left out.
    """
    pool = Pool()
    for side, sign in [('to_location', 1), ('from_location', -1)]:
        move = pool.get('stock.move').__table__()
        location = pool.get('stock.location').__table__()
        place = getattr(move, side)
        yield move.join(location, condition=place == location.id).select(
            move.product.as_('product'), place.as_('location'),
            (move.internal_quantity * sign).as_('on_hand'),
            Literal(0).as_('committed'),
            where=(move.state == 'done') & (location.type == 'storage')
            & (move.company == company) & within(move.product, products))
    line = pool.get('holdfast.line').__table__()
    signed = [
        (line.movement == word, line.quantity * sign)
        for word, sign in COMMITS.items()]
    yield line.select(
        line.product.as_('product'), line.location.as_('location'),
        Literal(0).as_('on_hand'),
        Case(*signed, else_=0).as_('committed'),
        where=line.movement.in_(sorted(COMMITS))
        & (line.company == company) & within(line.product, products))


def within(column, products):
    if products is None:
        return Literal(True)
    after, last = products
    return (column > after) & (column <= last)


def page(company, after, limit):
    """The positions of up to `limit` products above the id `after`, and the last id if more follow.

    Products without a code and locations without one are left out: Holdfast has no name for them.
    """
    cursor = Transaction().connection.cursor()
    product = Pool().get('product.product').__table__()
    cursor.execute(*product.select(
            product.id, product.code,
            where=product.id > after, order_by=product.id, limit=limit + 1))
    codes = cursor.fetchall()
    more, codes = len(codes) > limit, dict(codes[:limit])
    if not codes:
        return [], None
    last = max(codes)
    flows = Union(*flow_queries(company, (after, last)), all_=True)
    cursor.execute(*flows.select(
            flows.product, flows.location, Sum(flows.on_hand),
            Sum(flows.committed),
            group_by=[flows.product, flows.location],
            order_by=[flows.product, flows.location]))
    names = places.names()
    positions = [
        {'sku': codes[p], 'location': names[l],
            'on_hand': whole(on_hand), 'committed': int(committed)}
        for p, l, on_hand, committed in cursor.fetchall()
        if codes.get(p) and l in names]
    return positions, last if more else None


def whole(quantity):
    "Units are whole in Holdfast; what is not, because it is weighed here, stays as it is."
    return int(quantity) if quantity == int(quantity) else quantity


def revision():
    """Changes with every batch, move and state of a move: pages that name the same one are of one
    state of the stock."""
    cursor = Transaction().connection.cursor()
    pool = Pool()
    parts = []
    for name in ['holdfast.line', 'stock.move']:
        table = pool.get(name).__table__()
        cursor.execute(f'SELECT COUNT(*), MAX(id) FROM "{table._name}"')
        parts += [str(value or 0) for value in cursor.fetchone()]
    move = pool.get('stock.move').__table__()
    cursor.execute(
        f'SELECT MAX(write_date) FROM "{move._name}"')
    return '-'.join(parts + [str(cursor.fetchone()[0] or '')])
