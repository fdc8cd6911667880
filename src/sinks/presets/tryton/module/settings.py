"""Where goods go to and come from, and whom receivables are owed by.

Every setting may be empty: then the storage location's warehouse or the first location of the right
type serves, and the journal that comes with this module.
"""
from trytond.model import ModelSingleton, ModelSQL, ModelView, fields


class Settings(ModelSingleton, ModelSQL, ModelView):
    __name__ = 'holdfast.settings'

    customer_location = fields.Many2One(
        'stock.location', "Customer Location",
        domain=[('type', '=', 'customer')],
        help="Where shipments go to and returns come from.")
    supplier_location = fields.Many2One(
        'stock.location', "Supplier Location",
        domain=[('type', '=', 'supplier')],
        help="Where receipts come from.")
    lost_found_location = fields.Many2One(
        'stock.location', "Lost and Found Location",
        domain=[('type', '=', 'lost_found')],
        help="The other side of adjustments, for storage locations whose "
        "warehouse has none.")
    party = fields.Many2One(
        'party.party', "Party",
        help="Stands on postings to accounts that require a party: the "
        "collective customer of the shop.")
    journal = fields.Many2One(
        'account.journal', "Journal", help="The journal of all entries.")
