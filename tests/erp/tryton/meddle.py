#!/usr/bin/env python3
"""Moves stock in a running Tryton behind Holdfast's back: meddle.py DIR PORT SKU LOCATION QUANTITY.

The units go from the location to lost and found, or back if they are below zero."""
import pathlib
import sys

from client import Erp

CONTEXT = {'company': 1, 'companies': [1]}


def main(folder, port, sku, location, quantity):
    erp = Erp(pathlib.Path(folder), int(port))

    def one(model, *domain, fields=()):
        found, = erp.rpc(
            f'model.{model}.search_read', list(domain), 0, None, None, ['id', *fields], CONTEXT)
        return found

    product = one('product.product', ['code', '=', sku], fields=['default_uom'])
    place = one('stock.location', ['code', '=', location])
    lost = erp.rpc(
        'model.stock.location.search', [['type', '=', 'lost_found']], 0, None, None, CONTEXT)
    places = [place['id'], lost[0]] if int(quantity) > 0 else [lost[0], place['id']]
    move, = erp.rpc('model.stock.move.create', [{
        'product': product['id'], 'unit': product['default_uom'], 'quantity': float(abs(int(quantity))),
        'from_location': places[0], 'to_location': places[1], 'company': 1}], CONTEXT)
    erp.rpc('model.stock.move.do', [move], CONTEXT)
    done = one('stock.move', ['id', '=', move], fields=['state'])
    assert done['state'] == 'done', done


main(*sys.argv[1:])
