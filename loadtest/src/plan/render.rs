//! The bodies of a plan's requests, as the HTTP contract has them, written by hand into a buffer that is
//! used again: no request costs an allocation. A test reads each back through the server's own types.

use super::{CURRENCY, Line, Plan, Step, TAX_CODE, Visit};

/// Digits of a SKU's number: enough for the largest catalogue.
const SKU_DIGITS: usize = 7;

impl Plan {
    /// The body of a step of a visit; of a release it is empty: all is given back.
    pub fn body(&self, visit: &Visit, step: Step, out: &mut Vec<u8>) {
        match step {
            Step::Reserve => self.reserve(visit, out, b"{"),
            Step::Order => self.order(visit, out),
            Step::Commit => self.commit(visit, out),
            Step::Release => {}
        }
    }

    /// The member of a batch that stands for a visit's reservation.
    pub fn batch_member(&self, visit: &Visit, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"idempotency_key\":\"");
        self.write_key(visit.shopper, Step::Reserve, out);
        self.reserve(visit, out, b"\",");
    }

    /// The key of a step, as [`Plan::key`] has it.
    pub fn write_key(&self, shopper: u32, step: Step, out: &mut Vec<u8>) {
        out.extend_from_slice(self.run.as_bytes());
        out.push(b'-');
        out.push(step.letter() as u8);
        number(out, shopper.into());
    }

    fn reserve(&self, visit: &Visit, out: &mut Vec<u8>, begin: &[u8]) {
        out.extend_from_slice(begin);
        out.extend_from_slice(b"\"lines\":[");
        each(out, &visit.lines, |out, line| {
            out.extend_from_slice(b"{\"sku\":\"");
            sku(out, line.sku);
            out.extend_from_slice(b"\",\"quantity\":");
            number(out, line.quantity.into());
            out.push(b'}');
        });
        out.extend_from_slice(b"],\"customer\":\"");
        customer(out, visit.customer);
        out.extend_from_slice(b"\",\"ttl_ms\":");
        number(out, self.shoppers.ttl_ms);
        out.push(b'}');
    }

    fn commit(&self, visit: &Visit, out: &mut Vec<u8>) {
        self.money(visit, out);
        each(out, &visit.lines, |out, line| {
            out.extend_from_slice(b"{\"sku\":\"");
            sku(out, line.sku);
            price(out, line);
        });
        out.extend_from_slice(b"]}");
    }

    fn order(&self, visit: &Visit, out: &mut Vec<u8>) {
        self.money(visit, out);
        each(out, &visit.lines, |out, line| {
            out.extend_from_slice(b"{\"sku\":\"");
            sku(out, line.sku);
            out.extend_from_slice(b"\",\"quantity\":");
            number(out, line.quantity.into());
            out.extend_from_slice(b",\"tax_code\":\"");
            out.extend_from_slice(TAX_CODE.as_bytes());
            amounts(out, line);
        });
        out.extend_from_slice(b"],\"customer\":\"");
        customer(out, visit.customer);
        out.extend_from_slice(b"\"}");
    }

    /// The begin of a body with money, up to its lines.
    fn money(&self, visit: &Visit, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"order_id\":\"");
        out.extend_from_slice(self.run.as_bytes());
        out.extend_from_slice(b"-O");
        number(out, visit.shopper.into());
        out.extend_from_slice(b"\",\"currency\":\"");
        out.extend_from_slice(CURRENCY.as_bytes());
        out.extend_from_slice(b"\",\"lines\":[");
    }
}

/// The rest of a line behind its SKU: what it costs.
fn price(out: &mut Vec<u8>, line: &Line) {
    out.extend_from_slice(b"\",\"tax_code\":\"");
    out.extend_from_slice(TAX_CODE.as_bytes());
    amounts(out, line);
}

fn amounts(out: &mut Vec<u8>, line: &Line) {
    out.extend_from_slice(b"\",\"unit_price\":");
    number(out, line.unit_price());
    out.extend_from_slice(b",\"tax\":");
    number(out, line.tax());
    out.push(b'}');
}

fn each(out: &mut Vec<u8>, lines: &[Line], write: impl Fn(&mut Vec<u8>, &Line)) {
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, line);
    }
}

/// The name of a customer.
pub(crate) fn customer(out: &mut Vec<u8>, customer: u32) {
    out.extend_from_slice(b"c-");
    number(out, customer.into());
}

/// The name of a SKU.
pub(crate) fn sku(out: &mut Vec<u8>, number: u32) {
    let mut text = *b"SKU-0000000";
    let mut rest = number;
    for digit in text.iter_mut().rev().take(SKU_DIGITS) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text);
}

/// A number in decimal.
pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
