"""Calls the module as Holdfast does, and Tryton's own RPC beside it."""
import base64
import json
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / 'scripts/tryton'
TIMEOUT_S = 120


class Erp:
    def __init__(self, folder, port):
        self.folder = folder
        self.port = port
        self.key = (folder / 'key').read_text()
        self._session = None

    def call(self, path, body=None, key=None):
        "Status and members of an answer; a body that is bytes goes as it is."
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(
            f'http://127.0.0.1:{self.port}/tryton/r/holdfast/{path}', data=body,
            headers={
                'Authorization': f'bearer {self.key if key is None else key}',
                'Content-Type': 'application/json',
                })
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def apply(self, body, partial=False):
        "What a batch comes to: while the database is busy it is sent again, as Holdfast does."
        until = time.monotonic() + TIMEOUT_S
        while True:
            status, answer = self.call('batches' + ('?partial=true' if partial else ''), body)
            if status != 503 or time.monotonic() > until:
                return status, answer
            time.sleep(0.2)

    def stock(self):
        "Every position that the module tells, page by page."
        positions, after = {}, 0
        while after is not None:
            status, page = self.call(f'stock?limit=400&after={after}')
            assert status == 200, page
            for p in page['positions']:
                positions[p['sku'], p['location']] = p['on_hand'], p['committed']
            after = page['next']
        return positions

    def rpc(self, method, *params):
        "Tryton's own remote procedures, as the administrator."
        if self._session is None:
            user, token, *_ = self._post(
                'common.db.login', ['admin', {'password': 'admin'}], {})
            session = base64.b64encode(f'admin:{user}:{token}'.encode()).decode()
            self._session = {'Authorization': f'Session {session}'}
        return self._post(method, [*params], self._session)

    def _post(self, method, params, headers):
        request = urllib.request.Request(
            f'http://127.0.0.1:{self.port}/tryton/rpc/',
            data=json.dumps({'id': 1, 'method': method, 'params': params}).encode(),
            headers={'Content-Type': 'application/json', **headers})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer = json.load(answer)
        if 'error' in answer:
            raise RuntimeError(answer['error'])
        return answer['result']

    def script(self, command, *more):
        "A command of scripts/tryton for this server."
        done = subprocess.run(
            [SCRIPT, command, self.folder, *more], check=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        return json.loads(done.stdout) if command == 'dump' else None


def batch(number, lines=None, entries=None, half='', sink=None):
    "A body as Holdfast writes it; lines and entries get their ids by their place."
    domain = 'inventory' if entries is None else 'finance'
    sink = sink or {'inventory': 'erp', 'finance': 'books'}[domain]
    id_ = f'{sink}-3f9c-{number:06}'
    body = {
        'batch_id': id_ + half, 'sink': sink, 'domain': domain, 'priority': 'standard',
        'first_lsn': number * 100, 'last_lsn': number * 100 + 99,
        'sealed_at': time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime()), 'events': 1,
        }
    if entries is None:
        body['lines'] = [
            {'line_id': f'{id_}.{n}', **line} for n, line in enumerate(lines, 1)]
    else:
        body['entries'] = [
            {'entry_id': f'{id_}.{n}', **entry} for n, entry in enumerate(entries, 1)]
    return body


def line(sku, movement, quantity, location='BER'):
    return {
        'sku': f'SKU-{sku:05}' if isinstance(sku, int) else sku, 'location': location,
        'movement': movement, 'quantity': quantity, 'events': 1}


def entry(postings, kind='invoice', currency='EUR'):
    "Postings: account, tax code, amount in minor units, debit positive."
    return {
        'first_lsn': 1, 'last_lsn': 2, 'orders': 1, 'records': 1, 'digest': 'ab' * 32,
        'previous_digest': '00' * 32, 'kind': kind, 'currency': currency,
        'postings': [
            {'account': account, 'tax_code': code, 'debit': max(amount, 0),
                'credit': max(-amount, 0)}
            for account, code, amount in postings],
        }
