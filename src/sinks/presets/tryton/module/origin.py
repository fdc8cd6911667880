"""What Holdfast brought names the line or entry that it comes from."""
from trytond.pool import PoolMeta


class StockMove(metaclass=PoolMeta):
    __name__ = 'stock.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['holdfast.line']


class AccountMove(metaclass=PoolMeta):
    __name__ = 'account.move'

    @classmethod
    def _get_origin(cls):
        return super()._get_origin() + ['holdfast.entry']
