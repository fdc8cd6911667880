"""What was received: batches, their lines, and their entries.

The ids of batches, lines and entries are unique in the database, which is what makes a repeat
harmless. Rows are only ever added, and only by the route: neither the client nor the RPC may change
them.
"""
from trytond.model import Index, ModelSQL, ModelView, Unique, fields

# In units: what a movement adds to what is sold and has not left yet.
COMMITS = {'sold': 1, 'shipped': -1, 'cancelled': -1}
MOVEMENTS = [
    ('sold', "Sold"),
    ('shipped', "Shipped"),
    ('cancelled', "Cancelled"),
    ('returned', "Returned"),
    ('receipt', "Receipt"),
    ('adjustment', "Adjustment"),
    ]


class BigInteger(fields.Integer):
    "Positions of the log outgrow 32 bits."
    _sql_type = 'BIGINT'


class Received(ModelSQL, ModelView):
    "A row that stays as it was received, one for each id, which is its name."

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t, id_name = cls.__table__(), cls._rec_name
        cls._order = [('id', 'DESC')]
        cls._sql_constraints += [
            (f'{id_name}_unique', Unique(t, getattr(t, id_name)),
                f'holdfast.msg_{id_name}_unique'),
            ]
        for name in ('create', 'write', 'delete', 'copy'):
            cls.__rpc__.pop(name, None)


class Batch(Received):
    __name__ = 'holdfast.batch'
    _rec_name = 'batch_id'

    batch_id = fields.Char("Batch", required=True, readonly=True)
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True)
    series = fields.Char(
        "Series", readonly=True,
        help="The batch's id without the number of its seal: the sink and the "
        "incarnation of its log.")
    seal = BigInteger("Seal", readonly=True)
    sink = fields.Char("Sink", readonly=True)
    domain_ = fields.Char("Domain", readonly=True)
    first_lsn = BigInteger("First Position", readonly=True)
    last_lsn = BigInteger("Last Position", readonly=True)
    sealed_at = fields.Timestamp("Sealed at", readonly=True)
    lines = fields.One2Many('holdfast.line', 'batch', "Lines", readonly=True)
    entries = fields.One2Many(
        'holdfast.entry', 'batch', "Entries", readonly=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(
            Index(t, (t.series, Index.Equality()), (t.seal, Index.Range())))


class Line(Received):
    __name__ = 'holdfast.line'
    _rec_name = 'line_id'

    line_id = fields.Char("Line", required=True, readonly=True)
    batch = fields.Many2One(
        'holdfast.batch', "Batch", required=True, readonly=True,
        ondelete='RESTRICT')
    company = fields.Many2One(
        'company.company', "Company", required=True, readonly=True)
    fingerprint = fields.Char("Fingerprint", required=True, readonly=True)
    product = fields.Many2One(
        'product.product', "Product", required=True, readonly=True,
        ondelete='RESTRICT')
    location = fields.Many2One(
        'stock.location', "Location", required=True, readonly=True,
        ondelete='RESTRICT')
    movement = fields.Selection(
        MOVEMENTS, "Movement", required=True, readonly=True)
    quantity = BigInteger("Quantity", required=True, readonly=True)
    events = BigInteger("Events", readonly=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.update({
                Index(t, (t.batch, Index.Equality())),
                Index(t, (t.product, Index.Range())),
                })


class Entry(Received):
    __name__ = 'holdfast.entry'
    _rec_name = 'entry_id'

    entry_id = fields.Char("Entry", required=True, readonly=True)
    batch = fields.Many2One(
        'holdfast.batch', "Batch", required=True, readonly=True,
        ondelete='RESTRICT')
    fingerprint = fields.Char("Fingerprint", required=True, readonly=True)
    kind = fields.Char("Kind", readonly=True)
    orders = BigInteger("Orders", readonly=True)
    first_lsn = BigInteger("First Position", readonly=True)
    last_lsn = BigInteger("Last Position", readonly=True)
    digest = fields.Char("Digest", readonly=True)
    previous_digest = fields.Char("Previous Digest", readonly=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_indexes.add(Index(t, (t.batch, Index.Equality())))
