"""The API keys of Holdfast: user applications, as Tryton's REST keys are."""
from trytond.pool import PoolMeta


class UserApplication(metaclass=PoolMeta):
    __name__ = 'res.user.application'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.application.selection.append(('holdfast', "Holdfast"))
