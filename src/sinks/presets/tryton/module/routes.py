"""The calls over HTTP, as docs/erp-tryton.md has them. Every answer is JSON, errors too."""
import json
import logging
from functools import wraps

from trytond import backend
from trytond.exceptions import UserError, UserWarning
from trytond.pool import Pool
from trytond.protocols.wrappers import (
    HTTPStatus, Response, exceptions, set_max_request_size, user_application,
    with_pool, with_transaction)
from trytond.routing import Route, Router, Rule
from trytond.transaction import Transaction, without_check_access

from . import apply, body, position
from .problem import Problem

logger = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 1024 * 1024
RETRY_AFTER_S = 1
POSITIONS_MAX = 5_000
BATCHES_MAX = 100
CODES = {
    HTTPStatus.UNAUTHORIZED: 'unauthenticated',
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: 'too_large',
    HTTPStatus.SERVICE_UNAVAILABLE: 'overloaded',
    }


def answers(func):
    "Makes every outcome an answer in JSON."
    @wraps(func)
    def wrapper(*args, **kwargs):
        try:
            return answer(200, func(*args, **kwargs))
        except Problem as e:
            return answer(e.status, e.body)
        except exceptions.HTTPException as e:
            code = CODES.get(e.code, 'refused')
            return answer(e.code, {'code': code, 'detail': e.description})
        except backend.DatabaseOperationalError as e:
            logger.warning("the database is busy: %s", e)
            return answer(503, {
                    'code': 'overloaded', 'detail': "the database is busy"})
        except Exception:
            logger.exception("a call of Holdfast failed")
            return answer(500, {
                    'code': 'internal', 'detail': "see the server's log"})
    return wrapper


def answer(status, members):
    response = Response(
        json.dumps(members), status=status, content_type='application/json')
    if status == 503:
        response.headers['Retry-After'] = str(RETRY_AFTER_S)
    return response


def as_user(func):
    """Runs a call for the company of the key's user. The key is the right to these calls.

    What Tryton itself refuses names no line: the sender halves the batch until it stands alone.
    """
    @wraps(func)
    def wrapper(*args, **kwargs):
        User = Pool().get('res.user')
        context = User.get_preferences(context_only=True)
        with Transaction().set_context(context), without_check_access():
            try:
                return func(*args, **kwargs)
            except (UserError, UserWarning) as e:
                raise Problem(422, 'refused', e.message) from e
    return wrapper


def call(readonly):
    return [
        set_max_request_size(REQUEST_BYTES_MAX),
        answers,
        with_pool,
        with_transaction(readonly=readonly),
        user_application('holdfast', json=False),
        as_user,
        ]


class Holdfast(Router):
    __name__ = 'holdfast'

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__routes__.update({
                'apply': Route(
                    Rule('batches', methods={'POST'}), decorators=call(False)),
                'batches': Route(
                    Rule('batches', methods={'GET'}), decorators=call(True)),
                'stock': Route(
                    Rule('stock', methods={'GET'}), decorators=call(True)),
                'status': Route(
                    Rule('status', methods={'GET'}), decorators=call(True)),
                })

    @classmethod
    def apply(cls, request, pool):
        partial = request.args.get('partial', 'false')
        if partial not in {'true', 'false'}:
            raise body.malformed("partial is neither true nor false")
        return apply.batch(
            body.read(request.get_data()), partial == 'true')

    @classmethod
    def batches(cls, request, pool):
        Batch = pool.get('holdfast.batch')
        limit = number(request, 'limit', BATCHES_MAX, 1, BATCHES_MAX)
        domain = [('company', '=', apply.current_company().id)]
        if series := request.args.get('series'):
            domain += [
                ('series', '=', series),
                ('seal', '>', number(request, 'above', -1, -1)),
                ]
        domain.append(('id', '>', number(request, 'after', 0)))
        found = Batch.search(
            domain, order=[('id', 'ASC')], limit=limit + 1)
        return {
            'batches': [told(batch) for batch in found[:limit]],
            'next': str(found[limit - 1].id) if len(found) > limit else None,
            }

    @classmethod
    def stock(cls, request, pool):
        company = apply.current_company()
        limit = number(request, 'limit', 1_000, 1, POSITIONS_MAX)
        positions, last = position.page(
            company.id, number(request, 'after', 0), limit)
        return {
            'revision': position.revision(),
            'positions': positions,
            'next': str(last) if last is not None else None,
            }

    @classmethod
    def status(cls, request, pool):
        company = apply.current_company()
        return {
            'company': company.rec_name,
            'currency': company.currency.code,
            'user': pool.get('res.user')(Transaction().user).login,
            }


def told(batch):
    return {
        'batch_id': batch.batch_id,
        'domain': batch.domain_,
        'first_lsn': batch.first_lsn,
        'last_lsn': batch.last_lsn,
        'line_ids': sorted(
            [line.line_id for line in batch.lines]
            + [entry.entry_id for entry in batch.entries]),
        }


def number(request, name, default, least=0, most=2 ** 63 - 1):
    text = request.args.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise body.malformed(
            f"{name} is no integer from {least} to {most}")
    return value
