"""Locations by the names that Holdfast has for them: the codes of storage locations."""
from functools import cached_property

from trytond.pool import Pool
from trytond.transaction import inactive_records

from .problem import Problem

# Where a movement of goods comes from and goes to; the storage location itself is None.
ROUTES = {
    'shipped': (None, 'customer'),
    'returned': ('customer', None),
    'receipt': ('supplier', None),
    'adjustment': ('lost_found', None),
    }


class Place:
    "A storage location, and what lies around it."

    def __init__(self, location, around):
        self.location = location
        self._around = around

    @property
    def active(self):
        return self.location.active

    def moves(self, movement):
        return movement in ROUTES

    def route(self, movement):
        return [self._other(type_) for type_ in ROUTES[movement]]

    def _other(self, type_):
        if type_ is None:
            return self.location
        if type_ == 'lost_found' and self._lost_found:
            return self._lost_found
        return self._around.of(type_)

    @cached_property
    def _lost_found(self):
        "The warehouse's own; finding the warehouse is a search."
        warehouse = self.location.warehouse
        return warehouse.lost_found_location if warehouse else None


class Around:
    "Customers, suppliers, and lost and found: from the settings, else the first of that type."

    def __init__(self):
        self._settings = Pool().get('holdfast.settings')(1)
        self._found = {}

    def of(self, type_):
        if type_ not in self._found:
            self._found[type_] = self._find(type_)
        return self._found[type_]

    def _find(self, type_):
        if chosen := getattr(self._settings, f'{type_}_location'):
            return chosen
        Location = Pool().get('stock.location')
        first = Location.search(
            [('type', '=', type_)], order=[('id', 'ASC')], limit=1)
        if not first:
            raise Problem(
                403, 'not_configured', f"there is no {type_} location")
        return first[0]


@inactive_records
def find(codes):
    "The places of each code."
    around = Around()
    found = {}
    for location in Pool().get('stock.location').search([
                ('code', 'in', list(codes)),
                ('type', '=', 'storage'),
                ]):
        found.setdefault(location.code, []).append(Place(location, around))
    return found


@inactive_records
def names():
    "The code of each storage location that has one, by the location's id."
    return {
        location.id: location.code
        for location in Pool().get('stock.location').search([
                ('code', '!=', None),
                ('type', '=', 'storage'),
                ])}


def closed_until(company):
    "The last day whose stock is closed."
    Period = Pool().get('stock.period')
    last = Period.search(
        [('state', '=', 'closed'), ('company', '=', company.id)],
        order=[('date', 'DESC')], limit=1)
    return last[0].date if last else None
