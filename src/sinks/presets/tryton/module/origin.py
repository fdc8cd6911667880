"""What Holdfast brought names the line or entry that it comes from."""
from trytond.pool import PoolMeta
from trytond.transaction import Transaction


class StockMove(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _validate(cls, records, field_names=None):
        """Moves that are done a moment later are checked then, and not twice.

        The check is half of what a move costs.
        """
        if not Transaction().context.get('_holdfast_draft'):
            super()._validate(records, field_names=field_names)

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['holdfast.line']


class AccountMove(metaclass=PoolMeta):
    __name__ = 'account.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['holdfast.entry']
