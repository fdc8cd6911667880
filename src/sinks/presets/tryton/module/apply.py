"""Applies one batch, in the transaction of the request."""
from trytond.pool import Pool
from trytond.tools import timezone as tz
from trytond.transaction import Transaction

from . import claim, finance, inventory
from .problem import Problem


def batch(body, partial):
    """What a batch's sender is told: how many lines were applied, and how many had been before.

    If lines are bad, nothing of the batch is applied; with `partial` the others are.
    """
    domain = inventory if body.domain == 'inventory' else finance
    company = current_company()
    Part = Pool().get(domain.PART)
    fresh, already = claim.sort_out(body, Part, domain.ID, domain.SAYS)
    ready = domain.prepare(body, fresh, company, accounting_date(body, company))
    rejected = [r.answer(id_) for id_, r in body.rejections.items()]
    if rejected and not partial:
        raise Problem(
            422, 'rejected', "some lines can't be taken; nothing was applied",
            batch_id=body.batch_id, applied=0, rejected=rejected)
    if ready:
        _book(domain, body, fresh, company, ready)
    if already and not ready and not rejected:
        raise Problem(
            409, 'already_processed', "every line was applied before",
            batch_id=body.batch_id, applied=0, already=already, rejected=[])
    return {
        'batch_id': body.batch_id,
        'applied': len(ready),
        'already': already,
        'rejected': rejected,
        }


def _book(domain, body, fresh, company, ready):
    Part = Pool().get(domain.PART)
    row = claim.batch_row(body, company)
    claim.insert(Part, [
            {domain.ID: id_, 'batch': row, 'fingerprint': fresh[id_],
                **domain.columns(body.parts[id_], company, what)}
            for id_, what in ready.items()])
    rows = claim.of_ids(Part, domain.ID, list(ready), 'id')
    domain.book({rows[id_]: what for id_, what in ready.items()}, company)


def current_company():
    "The company of the key's user."
    pool = Pool()
    company = Transaction().context.get('company')
    if company is None:
        raise Problem(
            403, 'not_configured', "the user of this key has no company")
    return pool.get('company.company')(company)


def accounting_date(body, company):
    "The company's date when the batch was sealed; never in the future, whatever the clocks say."
    zone = tz.ZoneInfo(company.timezone) if company.timezone else None
    today = Pool().get('ir.date').today()
    sealed = body.sealed_at.astimezone(zone).date()
    return min(sealed, today)
