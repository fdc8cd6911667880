"""Stock movements: each line that moves goods is one stock move, done.

`sold` and `cancelled` move nothing: they change what is committed, which is the sum of the lines
(see `position`). A quantity below zero goes the other way.
"""
from decimal import Decimal

from trytond.pool import Pool
from trytond.transaction import Transaction, inactive_records

from . import claim, places
from .body import of_line
from .batch import MOVEMENTS
from .problem import Rejection

PART = 'holdfast.line'
ID = 'line_id'
SAYS = claim.LINE_SAYS
WORDS = {word for word, _ in MOVEMENTS}
PRODUCT_TYPES = {'goods', 'assets'}


class Line:
    "A line whose names were found."

    def __init__(self, product, place, movement, quantity, date):
        self.product = product
        self.place = place
        self.movement = movement
        self.quantity = quantity
        self.date = date


def prepare(body, fresh, company, date):
    "The new lines that can be applied; the others are rejected."
    read = {}
    for id_ in fresh:
        try:
            read[id_] = of_line(body.parts[id_])
        except Rejection as e:
            body.rejections[id_] = e
    products = find_products({sku for sku, *_ in read.values()})
    found = places.find({location for _, location, *_ in read.values()})
    closed = places.closed_until(company)
    ready = {}
    for id_, (sku, location, movement, quantity) in read.items():
        try:
            if movement not in WORDS:
                raise Rejection(
                    'unknown_movement', f"no movement is named {movement!r}")
            place = one(found, location, 'location')
            product = one(products, sku, 'sku')
            check_active(place.location, 'location', location)
            check_product(product, sku)
            if place.moves(movement) and closed and date <= closed:
                raise Rejection(
                    'closed_period', f"stock is closed up to {closed}")
            ready[id_] = Line(product, place, movement, quantity, date)
        except Rejection as e:
            body.rejections[id_] = e
    return ready


def columns(part, company, line):
    "What the row of a line says, beside its ids."
    events = part.get('events')
    return {
        'company': company.id,
        'product': line.product.id,
        'location': line.place.location.id,
        'movement': line.movement,
        'quantity': line.quantity,
        'events': events if type(events) is int else None,
        }


def book(lines, company):
    "Makes the moves, and does them."
    Move = Pool().get('stock.move')
    values = [
        move_values(row, line, company) for row, line in lines.items()
        if line.place.moves(line.movement)]
    # A line is booked to the product that it names, even if that is about to be replaced by another.
    with Transaction().set_context(
            _product_replacement=False, _holdfast_draft=True):
        moves = Move.create(values)
    Move.do(Move.browse(moves))


def move_values(row, line, company):
    from_, to = line.place.route(line.movement)
    if line.quantity < 0:
        from_, to = to, from_
    values = {
        'product': line.product.id,
        'unit': line.product.default_uom.id,
        'quantity': float(abs(line.quantity)),
        'from_location': from_.id,
        'to_location': to.id,
        'company': company.id,
        'effective_date': line.date,
        'origin': f'{PART},{row}',
        }
    types = {from_.type, to.type}
    if types & {'customer', 'supplier'}:
        # Prices are the finance feed's; a receipt at cost leaves the cost as it is.
        price = line.product.cost_price if 'supplier' in types else None
        values['unit_price'] = price or Decimal(0)
        values['currency'] = company.currency.id
    return values


@inactive_records
def find_products(skus):
    "The products of each code."
    Product = Pool().get('product.product')
    found = {}
    for product in Product.search([('code', 'in', list(skus))]):
        found.setdefault(product.code, []).append(product)
    return found


def one(found, name, what):
    candidates = found.get(name, [])
    if not candidates:
        raise Rejection(f'unknown_{what}', f"no {what} has the code {name!r}")
    if len(candidates) > 1:
        active = [c for c in candidates if c.active]
        if len(active) != 1:
            raise Rejection(
                f'ambiguous_{what}',
                f"{len(candidates)} have the code {name!r}")
        candidates = active
    return candidates[0]


def check_active(record, what, name):
    if not record.active:
        raise Rejection(f'inactive_{what}', f"{name!r} is not active")


def check_product(product, sku):
    if not product.active or not product.template.active:
        raise Rejection('inactive_sku', f"{sku!r} is not active")
    if product.type not in PRODUCT_TYPES:
        raise Rejection('not_stocked', f"{sku!r} is a {product.type}")
