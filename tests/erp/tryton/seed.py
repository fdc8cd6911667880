"""Fills a new Tryton database: a company that keeps its books in euros, the accounts that Holdfast
posts to by default, a fiscal year around today, products, storage locations, and a key for the calls.

Called by scripts/tryton with the folder of the database, which names products and locations in
seed.json and gets the key.
"""
import json
import pathlib
import sys
from decimal import Decimal

from proteus import Model, config
from trytond.modules.account.tests.tools import create_chart, create_fiscalyear
from trytond.modules.company.tests.tools import create_company, get_company
from trytond.modules.currency.tests.tools import get_currency

# More in one call is too much for the parser of SQLite.
PRODUCTS_A_CALL = 40
# The default names of Holdfast's accounts, and the account of Tryton's universal chart that each is
# modelled on.
ACCOUNTS = {
    'receivable': '1.2.1',
    'revenue': '4.1.1',
    'tax': '6.3.4',
    'shipping': '4.1.2',
    'settlement_clearing': '1.1.1',
    'processor_fees': '5.2.2',
    'refunds': '4.3.3',
    'inventory': '1.3.1',
    'cost_of_goods_sold': '5.2.1',
    'write_off': '5.2.1',
    }


def main(folder):
    seed = json.loads((folder / 'seed.json').read_text())
    config.set_trytond('sqlite:///tryton', config_file=str(folder / 'trytond.conf'))
    create_company(currency=get_currency('EUR'))
    create_books()
    create_locations(seed['locations'])
    create_products(seed['skus'])
    (folder / 'key').write_text(create_key())


def create_books():
    company = get_company()
    create_fiscalyear(company).click('create_period')
    create_chart(company)
    Account = Model.get('account.account')
    for code, like in ACCOUNTS.items():
        model, = Account.find([('code', '=', like), ('company', '=', company.id)])
        Account(
            name=code, code=code, company=company, type=model.type,
            party_required=bool(model.party_required),
            reconcile=bool(model.reconcile),
            ).save()
    party = Model.get('party.party')(name="Customers of the shop")
    party.addresses[0].street = "Hauptstr. 1"
    party.addresses[0].city = "Berlin"
    party.save()
    settings = Model.get('holdfast.settings')(1)
    settings.party = party
    settings.save()


def create_locations(codes):
    Location = Model.get('stock.location')
    warehouse, = Location.find([('type', '=', 'warehouse')])
    for code in codes:
        Location(
            name=code, code=code, type='storage',
            parent=warehouse.storage_location).save()


def create_products(skus):
    unit, = Model.get('product.uom').find([('symbol', '=', 'u')])
    Template = Model.get('product.template')
    context = config.get_config().context
    for at in range(0, len(skus), PRODUCTS_A_CALL):
        Template._proxy.create([{
                    'name': sku,
                    'type': 'goods',
                    'default_uom': unit.id,
                    'list_price': Decimal('19.99'),
                    'products': [('create', [{'suffix_code': sku}])],
                    } for sku in skus[at:at + PRODUCTS_A_CALL]], context)


def create_key():
    company = get_company()
    user = Model.get('res.user')(name="Holdfast", login='holdfast')
    user.companies.append(company)
    user.company = company
    user.save()
    application = Model.get('res.user.application')(
        user=user, application='holdfast')
    application.save()
    return application.key


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
