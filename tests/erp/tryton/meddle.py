#!/usr/bin/env python3
"""Receives stock in a running Tryton behind Holdfast's back: meddle.py DIR PORT SKU LOCATION QUANTITY."""
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
    supplier, = erp.rpc(
        'model.stock.location.search', [['type', '=', 'supplier']], 0, 1, None, CONTEXT)
    currency = one('currency.currency', ['code', '=', 'EUR'])
    move, = erp.rpc('model.stock.move.create', [{
        'product': product['id'], 'unit': product['default_uom'], 'quantity': float(quantity),
        'from_location': supplier, 'to_location': place['id'], 'company': 1,
        'unit_price': {'__class__': 'Decimal', 'decimal': '1'}, 'currency': currency['id']}], CONTEXT)
    erp.rpc('model.stock.move.do', [move], CONTEXT)
    done = one('stock.move', ['id', '=', move], fields=['state'])
    assert done['state'] == 'done', done


main(*sys.argv[1:])
