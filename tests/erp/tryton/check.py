"""Checks Holdfast's module against a real Tryton, over HTTP. Called by `scripts/tryton check`.

What stands in the database is read with `scripts/tryton dump`, which knows nothing of the module's
code, and by Tryton's own RPC.
"""
import concurrent.futures
import datetime
import http.client
import pathlib
import random
import sys
import threading
import time
import unittest

from client import Erp, batch, entry, line

ERP = None
NUMBERS = iter(range(1, 1_000_000))
INVOICE = [
    ('receivable', None, 11_900), ('revenue', 'DE-19', -10_000), ('tax', 'DE-19', -1_900)]


def new(lines=None, entries=None, **more):
    return batch(next(NUMBERS), lines, entries, **more)


def position(sku, location='BER'):
    "On hand and committed, as the database has them."
    for p in ERP.script('dump')['stock']:
        if (p['sku'], p['location']) == (f'SKU-{sku:05}', location):
            return p['on_hand'], p['committed']
    return 0, 0


def balances():
    return {b['account']: b['balance'] for b in ERP.script('dump')['trial_balance']}


class Movements(unittest.TestCase):
    def test_each_movement_changes_what_it_says(self):
        for movement, quantity, on_hand, committed in [
                ('adjustment', 50, 50, 0), ('sold', 9, 0, 9), ('cancelled', 2, 0, -2),
                ('shipped', 4, -4, -4), ('returned', 1, 1, 0), ('receipt', 20, 20, 0),
                ('adjustment', -3, -3, 0), ('receipt', -2, -2, 0), ('shipped', -1, 1, 1)]:
            with self.subTest(movement=movement, quantity=quantity):
                before = position(1)
                status, answer = ERP.apply(new([line(1, movement, quantity)]))
                self.assertEqual((status, answer['applied']), (200, 1), answer)
                after = position(1)
                self.assertEqual(after, (before[0] + on_hand, before[1] + committed))

    def test_tryton_itself_and_the_module_tell_the_same_stock(self):
        lines = [
            line(n, movement, random.randint(1, 50), location)
            # Some stand where a page of the module's answer ends.
            for n in [*range(10, 40), 400, 401, 800, 801, 1_000] for location in ('BER', 'HAM')
            for movement in ('adjustment', 'sold', 'shipped', 'returned')]
        self.assertEqual(ERP.apply(new(lines))[0], 200)
        dumped = {
            (p['sku'], p['location']): (p['on_hand'], p['committed'])
            for p in ERP.script('dump')['stock']}
        self.assertEqual(ERP.stock(), dumped)
        for location in ('BER', 'HAM'):
            told = {
                sku: on_hand for (sku, place), (on_hand, _) in dumped.items()
                if place == location and on_hand}
            self.assertEqual(tryton_stock(location), told)

    def test_a_move_names_its_line_and_no_move_is_left_unfinished(self):
        body = new([line(2, 'receipt', 5)])
        self.assertEqual(ERP.apply(body)[0], 200)
        found = ERP.rpc(
            'model.stock.move.search_read',
            [['origin.line_id', '=', body['lines'][0]['line_id'], 'holdfast.line']],
            0, None, None, ['quantity', 'state'], {'company': 1, 'companies': [1]})
        self.assertEqual([(m['quantity'], m['state']) for m in found], [(5.0, 'done')])
        self.assertEqual(ERP.script('dump')['unfinished'], 0)


def tryton_stock(location):
    context = {'company': 1, 'companies': [1]}
    place, = ERP.rpc(
        'model.stock.location.search', [['code', '=', location]], 0, None, None, context)
    products = ERP.rpc('model.product.product.search', [], 0, None, None, context)
    today = datetime.date.today()
    context |= {
        'locations': [place],
        'stock_date_end': {
            '__class__': 'date', 'year': today.year, 'month': today.month, 'day': today.day},
        }
    read = ERP.rpc('model.product.product.read', products, ['code', 'quantity'], context)
    return {p['code']: int(p['quantity']) for p in read if p['quantity']}


class ExactlyOnce(unittest.TestCase):
    def test_a_repeat_is_known(self):
        body = new([line(3, 'receipt', 10), line(3, 'sold', 2)])
        before = position(3)
        self.assertEqual(ERP.apply(body)[0], 200)
        for partial in (False, True):
            status, answer = ERP.apply(body, partial)
            self.assertEqual(status, 409)
            self.assertEqual(answer['code'], 'already_processed')
            self.assertEqual((answer['applied'], answer['already']), (0, 2))
        self.assertEqual(position(3), (before[0] + 10, before[1] + 2))

    def test_twins_have_one_effect(self):
        before = position(4)
        body = new([line(4, 'receipt', 10)] + [line(n, 'receipt', 1) for n in range(100, 140)])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ERP.apply, [body] * 8))
        statuses = sorted(status for status, _ in answers)
        self.assertEqual(statuses, [200] + [409] * 7, answers)
        self.assertEqual(position(4), (before[0] + 10, before[1]))

    def test_twins_of_an_entry_have_one_effect(self):
        before = balances().get('receivable', 0)
        body = new(entries=[entry(INVOICE)])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ERP.apply, [body] * 8))
        statuses = sorted(status for status, _ in answers)
        self.assertEqual(statuses, [200] + [409] * 7, answers)
        self.assertEqual(balances()['receivable'], before + 11_900)

    def test_batches_side_by_side_are_all_applied(self):
        before = position(5)
        bodies = [new([line(5, 'receipt', 1), line(5, 'sold', 1)]) for _ in range(24)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ERP.apply, bodies))
        self.assertEqual({status for status, _ in answers}, {200}, answers)
        self.assertEqual(position(5), (before[0] + 24, before[1] + 24))

    def test_halves_of_an_applied_batch_add_nothing(self):
        body = new([line(6, 'receipt', n) for n in range(1, 5)])
        before = position(6)
        self.assertEqual(ERP.apply(body)[0], 200)
        for half, lines in (('.a', body['lines'][:2]), ('.b', body['lines'][2:])):
            status, _ = ERP.apply({**body, 'batch_id': body['batch_id'] + half, 'lines': lines})
            self.assertEqual(status, 409)
        self.assertEqual(position(6), (before[0] + 10, before[1]))

    def test_a_batch_whose_half_was_applied_adds_the_rest(self):
        body = new([line(6, 'receipt', n) for n in range(1, 5)])
        before = position(6)
        half = {**body, 'batch_id': body['batch_id'] + '.a', 'lines': body['lines'][:2]}
        self.assertEqual(ERP.apply(half)[0], 200)
        status, answer = ERP.apply(body)
        self.assertEqual((status, answer['applied'], answer['already']), (200, 2, 2))
        self.assertEqual(position(6), (before[0] + 10, before[1]))

    def test_a_batch_and_its_halves_at_the_same_moment_have_one_effect(self):
        body = new([line(n, 'receipt', 1) for n in range(50, 90)])
        half = {**body, 'batch_id': body['batch_id'] + '.a', 'lines': body['lines'][:20]}
        other = {**body, 'batch_id': body['batch_id'] + '.b', 'lines': body['lines'][20:]}
        before = ERP.script('dump')
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            answers = list(pool.map(ERP.apply, [half, body, other] * 3))
        self.assertLessEqual({status for status, _ in answers}, {200, 409}, answers)
        self.assertEqual(sum(answer['applied'] for _, answer in answers), 40)
        after = ERP.script('dump')
        self.assertEqual(
            (after['lines'], after['moves']), (before['lines'] + 40, before['moves'] + 40))

    def test_an_id_never_means_two_things(self):
        body = new([line(7, 'receipt', 10)])
        self.assertEqual(ERP.apply(body)[0], 200)
        before = position(7)
        body['lines'][0]['quantity'] = 11
        status, answer = ERP.apply(body)
        self.assertEqual((status, answer['rejected'][0]['code']), (422, 'conflict'))
        self.assertEqual(position(7), before)

    def test_killed_in_the_middle_it_is_exactly_once(self):
        "The server is killed at several moments of a batch; sent again, it is there once."
        before = ERP.script('dump')
        left = []
        for wait_s in (0.05, 0.2, 0.4, 0.8, 1.2):
            body = new([line(n, 'receipt', 1, 'HAM') for n in range(200, 500)])
            sender = threading.Thread(target=send_into_the_void, args=(body,))
            sender.start()
            time.sleep(wait_s)
            ERP.script('kill')
            sender.join()
            lines = ERP.script('dump')['lines']
            ERP.script('start', str(ERP.port))
            status, answer = ERP.apply(body)
            self.assertIn(status, (200, 409), answer)
            left.append(status)
            after = ERP.script('dump')
            self.assertEqual(after['lines'], before['lines'] + 300)
            self.assertEqual(after['moves'], before['moves'] + 300)
            self.assertIn(lines, (before['lines'], after['lines']), "half a batch was left")
            before = after
        self.assertIn(200, left, "no batch was cut off: kill earlier")


def send_into_the_void(body):
    try:
        ERP.apply(body)
    except (OSError, http.client.HTTPException):
        pass


class BadLines(unittest.TestCase):
    BAD = [
        ('unknown_sku', line('NO-SUCH', 'sold', 1)),
        ('unknown_location', line(8, 'receipt', 1, 'NOWHERE')),
        ('unknown_movement', line(8, 'stolen', 1)),
        ('malformed', line(8, 'sold', 0)),
        ('malformed', line(8, 'sold', 1.5)),
        ('malformed', line(8, 'sold', True)),
        ('malformed', line(8, 'sold', '1')),
        ('malformed', line(8, 'sold', 10 ** 30)),
        ('malformed', {'sku': 8}),
        ]

    def test_a_bad_line_stops_the_batch_and_is_named(self):
        before = ERP.script('dump')
        for code, bad in self.BAD:
            with self.subTest(code=code, bad=bad):
                body = new([line(8, 'receipt', 1), bad])
                status, answer = ERP.apply(body)
                self.assertEqual(status, 422, answer)
                self.assertEqual(
                    [(r['line_id'], r['code']) for r in answer['rejected']],
                    [(body['lines'][1]['line_id'], code)])
                self.assertTrue(answer['rejected'][0]['reason'].startswith(code))
        self.assertEqual(ERP.script('dump'), before)

    def test_in_part_the_good_lines_are_applied_and_the_mended_one_follows(self):
        before = position(8)
        body = new([line(8, 'receipt', 7), line('NO-SUCH', 'receipt', 3)])
        status, answer = ERP.apply(body, partial=True)
        self.assertEqual((status, answer['applied']), (200, 1), answer)
        self.assertEqual(
            [r['line_id'] for r in answer['rejected']], [body['lines'][1]['line_id']])
        status, answer = ERP.apply(body, partial=True)
        self.assertEqual((status, answer['already'], len(answer['rejected'])), (200, 1, 1))
        self.assertEqual(position(8), (before[0] + 7, before[1]))
        body['lines'] = [{**body['lines'][1], 'sku': 'SKU-00008'}]
        self.assertEqual(ERP.apply(body)[1]['applied'], 1)
        self.assertEqual(position(8), (before[0] + 10, before[1]))

    def test_what_is_not_active_or_not_stocked_is_refused(self):
        context = {'company': 1, 'companies': [1]}
        found = ERP.rpc(
            'model.product.product.search_read', [['code', '=', 'SKU-00900']], 0, None, None,
            ['template'], context)
        template = found[0]['template']
        for change, back, code in [
                ({'active': False}, {'active': True}, 'inactive_sku'),
                ({'type': 'service'}, {'type': 'goods'}, 'not_stocked')]:
            ERP.rpc('model.product.template.write', [template], change, context)
            status, answer = ERP.apply(new([line(900, 'sold', 1)]))
            ERP.rpc('model.product.template.write', [template], back, context)
            self.assertEqual((status, answer['rejected'][0]['code']), (422, code))
        self.assertEqual(ERP.apply(new([line(900, 'sold', 1)]))[0], 200)

    def test_closed_stock_is_refused_but_a_sale_is_not(self):
        body = new([line(9, 'receipt', 1), line(9, 'sold', 1)])
        body['sealed_at'] = '1999-12-31T12:00:00Z'
        close_stock_period(datetime.date(2000, 1, 1))
        status, answer = ERP.apply(body, partial=True)
        self.assertEqual((status, answer['applied']), (200, 1), answer)
        self.assertEqual(
            [(r['line_id'], r['code']) for r in answer['rejected']],
            [(body['lines'][0]['line_id'], 'closed_period')])

    def test_a_clock_ahead_does_no_harm(self):
        body = new([line(9, 'receipt', 1)])
        body['sealed_at'] = (
            datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=400)).isoformat()
        self.assertEqual(ERP.apply(body)[0], 200)

    def test_no_bodies(self):
        good = new([line(9, 'sold', 1)])
        before = ERP.script('dump')
        for body in [
                b'', b'{', b'[]', b'nul', b'\xff\xfe', b'[' * 100_000, b'{"domain": NaN}',
                {**good, 'domain': 'fulfilment'}, {**good, 'lines': None},
                {**good, 'lines': [1]}, {**good, 'batch_id': ''}, {**good, 'batch_id': 7},
                {**good, 'batch_id': 'x' * 1_000}, {**good, 'sealed_at': 'now'},
                {**good, 'sealed_at': '2026-01-01T00:00:00'},
                {**good, 'sealed_at': '0001-01-01T00:00:00Z'}, {**good, 'first_lsn': -1},
                {**good, 'lines': good['lines'] * 2}]:
            with self.subTest(body=str(body)[:60]):
                status, answer = ERP.call('batches', body)
                self.assertEqual((status, answer['code']), (400, 'malformed'))
        self.assertEqual(ERP.call('batches', b' ' * 2_000_000)[0], 413)
        self.assertEqual(ERP.call('batches?partial=yes', good)[0], 400)
        self.assertEqual(ERP.script('dump'), before)

    def test_unknown_members_are_ignored(self):
        body = new([{**line(9, 'sold', 1), 'colour': 'red'}])
        self.assertEqual(ERP.apply({**body, 'more': {'x': [1]}})[0], 200)


def close_stock_period(date):
    context = {'company': 1, 'companies': [1]}
    date = {'__class__': 'date', 'year': date.year, 'month': date.month, 'day': date.day}
    period, = ERP.rpc('model.stock.period.create', [{'date': date, 'company': 1}], context)
    ERP.rpc('model.stock.period.close', [period], context)


class Books(unittest.TestCase):
    def test_an_entry_is_posted_to_the_cent(self):
        before = balances()
        entries = [
            entry(INVOICE),
            entry([('settlement_clearing', None, 11_600), ('processor_fees', None, 300),
                    ('receivable', None, -11_900)], 'settlement'),
            entry([('refunds', 'DE-19', 84), ('tax', 'DE-19', 16),
                    ('settlement_clearing', None, -100)], 'refund'),
            entry([('cost_of_goods_sold', None, 7_000), ('inventory', None, -7_000)], 'shipment'),
            entry([('write_off', None, 1), ('cost_of_goods_sold', None, -1)], 'write_off'),
            entry([('receivable', None, 590), ('shipping', 'DE-19', -496),
                    ('tax', 'DE-19', -94)]),
            entry([]),
            ]
        status, answer = ERP.apply(new(entries=entries))
        self.assertEqual((status, answer['applied']), (200, 7), answer)
        expected = dict(before)
        for one in entries:
            for p in one['postings']:
                account = p['account']
                expected[account] = expected.get(account, 0) + p['debit'] - p['credit']
        after = balances()
        self.assertEqual(after, expected)
        self.assertEqual(sum(after.values()), 0)
        self.assertEqual(ERP.script('dump')['unfinished'], 0)

    def test_large_amounts_stay_exact(self):
        before = balances()
        self.assertEqual(ERP.apply(new(entries=[entry([
                            ('inventory', None, 123_456_789_012_345),
                            ('write_off', None, -123_456_789_012_345)])]))[0], 200)
        after = balances()
        self.assertEqual(
            after['inventory'], before.get('inventory', 0) + 123_456_789_012_345)

    def test_bad_entries_are_named_and_nothing_is_posted(self):
        before = ERP.script('dump')
        for code, bad in [
                ('unbalanced', entry([('receivable', None, 2), ('revenue', None, -1)])),
                ('unknown_account', entry([('petty', None, 1), ('revenue', None, -1)])),
                ('wrong_currency', entry(INVOICE, currency='JPY')),
                ('malformed', {**entry(INVOICE), 'postings': 5}),
                ('malformed', {**entry(INVOICE), 'postings': [{'account': 'tax', 'debit': -1}]}),
                ('malformed', {**entry(INVOICE), 'postings': [{'account': 'tax', 'debit': 0.5}]}),
                ]:
            with self.subTest(code=code):
                body = new(entries=[entry(INVOICE), bad])
                status, answer = ERP.apply(body)
                self.assertEqual(
                    (status, [(r['line_id'], r['code']) for r in answer['rejected']]),
                    (422, [(body['entries'][1]['entry_id'], code)]))
        self.assertEqual(ERP.script('dump'), before)
        status, answer = ERP.apply(
            new(entries=[entry(INVOICE), entry([('tax', None, 1)])]), partial=True)
        self.assertEqual((status, answer['applied'], len(answer['rejected'])), (200, 1, 1))

    def test_a_day_without_an_open_period_is_refused(self):
        body = new(entries=[entry(INVOICE)])
        body['sealed_at'] = '1999-12-31T12:00:00Z'
        status, answer = ERP.apply(body)
        self.assertEqual((status, answer['rejected'][0]['code']), (422, 'no_period'))


class Access(unittest.TestCase):
    def test_a_wrong_key_is_refused_everywhere(self):
        body = new([line(9, 'sold', 1)])
        before = ERP.script('dump')
        for key in ('', 'x' * 128, ERP.key[:-1]):
            for path, sent in [
                    ('batches', body), ('batches', None), ('stock', None), ('status', None)]:
                status, answer = ERP.call(path, sent, key)
                self.assertEqual((status, answer['code']), (401, 'unauthenticated'))
        self.assertEqual(ERP.script('dump'), before)

    def test_what_was_received_is_read_only(self):
        body = new([line(9, 'sold', 1)])
        self.assertEqual(ERP.apply(body)[0], 200)
        context = {'company': 1, 'companies': [1]}
        row, = ERP.rpc(
            'model.holdfast.line.search', [['line_id', '=', body['lines'][0]['line_id']]],
            0, None, None, context)
        for name, *values in [('write', {'quantity': 5}), ('delete',), ('copy',)]:
            with self.assertRaises(Exception):
                ERP.rpc(f'model.holdfast.line.{name}', [row], *values, context)
        read, = ERP.rpc('model.holdfast.line.read', [row], ['quantity'], context)
        self.assertEqual(read['quantity'], 1)


class ReadBack(unittest.TestCase):
    def test_batches_above_a_seal_are_told_with_their_lines(self):
        first = new([line(9, 'sold', 1)], sink='other')
        second = new([line(9, 'sold', 1)], sink='other')
        for body in (first, second):
            self.assertEqual(ERP.apply(body)[0], 200)
        seal = int(first['batch_id'][-6:])
        status, answer = ERP.call(f'batches?series=other-3f9c&above={seal}')
        self.assertEqual(
            [(b['batch_id'], b['line_ids']) for b in answer['batches']],
            [(second['batch_id'], [second['lines'][0]['line_id']])])
        status, page = ERP.call(f'batches?series=other-3f9c&above={seal - 1}&limit=1')
        self.assertEqual(page['batches'][0]['batch_id'], first['batch_id'])
        status, page = ERP.call(
            f'batches?series=other-3f9c&above={seal - 1}&limit=1&after={page["next"]}')
        self.assertEqual(
            (page['batches'][0]['batch_id'], page['next']), (second['batch_id'], None))

    def test_the_revision_changes_with_the_stock_alone(self):
        first = ERP.call('stock?limit=1')[1]['revision']
        self.assertEqual(ERP.call('stock?limit=1')[1]['revision'], first)
        self.assertEqual(ERP.apply(new([line(9, 'sold', 1)]))[0], 200)
        self.assertNotEqual(ERP.call('stock?limit=1')[1]['revision'], first)

    def test_positions_stand_in_the_client_too(self):
        context = {'company': 1, 'companies': [1]}
        self.assertEqual(ERP.apply(new([line(11, 'sold', 1), line(11, 'receipt', 4)]))[0], 200)
        rows = ERP.rpc(
            'model.holdfast.position.search_read',
            [['product.code', '=', 'SKU-00011'], ['location.code', '=', 'BER']], 0, None, None,
            ['on_hand', 'committed'], context)
        self.assertEqual([(r['on_hand'], r['committed']) for r in rows], [position(11)])

    def test_bad_pages_are_refused(self):
        for query in ('limit=0', 'limit=x', 'after=-1', 'limit=99999999', 'after=1e3'):
            self.assertEqual(ERP.call(f'stock?{query}')[0], 400, query)


if __name__ == '__main__':
    ERP = Erp(pathlib.Path(sys.argv.pop(1)), int(sys.argv.pop(1)))
    unittest.main(verbosity=2)
