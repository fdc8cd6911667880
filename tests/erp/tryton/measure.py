"""Says how fast the module is: lines and entries a second by the size of a batch."""
import pathlib
import sys
import time

from client import Erp, batch, entry, line

PHYSICAL = ['adjustment', 'shipped', 'returned', 'receipt']
INVOICE = [
    ('receivable', None, 11_900), ('revenue', 'DE-19', -10_000), ('tax', 'DE-19', -1_900)]


def main(folder, port):
    erp = Erp(folder, port)
    number = 1_000
    for name, movements in [('sold', ['sold']), ('stock moves', PHYSICAL)]:
        for size in (1, 100, 500, 1_000):
            rates = []
            for _ in range(3):
                number += 1
                lines = [
                    line(n % 1_000 + 1, movements[n % len(movements)], 3) for n in range(size)]
                rates.append(rate(erp, batch(number, lines), size))
            tell(f'{name} in batches of {size}', rates, 'lines')
            status, answer = erp.apply(batch(number, lines))
            assert (status, answer['already']) == (409, size), answer
    for size in (1, 10, 100):
        rates = []
        for _ in range(3):
            number += 1
            rates.append(rate(erp, batch(number, entries=[entry(INVOICE)] * size), size))
        tell(f'journal entries in batches of {size}', rates, 'entries')
    began = time.monotonic()
    positions = erp.stock()
    print(f'stock of {len(positions)} positions read in {time.monotonic() - began:.2f} s')


def rate(erp, body, size):
    began = time.monotonic()
    status, answer = erp.apply(body)
    assert (status, answer['applied']) == (200, size), answer
    return size / (time.monotonic() - began)


def tell(what, rates, unit):
    print(f'{what}: {min(rates):.0f} to {max(rates):.0f} {unit}/s', flush=True)


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
