"""What goes wrong, as the caller is told."""
from trytond.transaction import TransactionError


class Problem(Exception):
    "An answer other than 200: nothing of the request was kept."

    def __init__(self, status, code, detail, **members):
        super().__init__(detail)
        self.status = status
        self.body = {'code': code, 'detail': detail, **members}


class Twin(TransactionError):
    """Another request claimed one of these ids first.

    The transaction is begun anew, and then finds what the other one left.
    """


class Rejection(Exception):
    "A line that can't be taken: a word for programs, and a sentence."

    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code

    def answer(self, line_id):
        return {
            'line_id': line_id,
            'code': self.code,
            'reason': f'{self.code}: {self}',
            }
