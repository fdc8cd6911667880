//! What an order comes to. One place for the arithmetic of money, so that the order that is shown
//! and the entry that is booked can't differ.

use smallvec::{SmallVec, smallvec};

use super::{Invalid, event::OrderData};

/// The sums of an order, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// What the customer pays, tax contained.
    pub gross: i64,
    /// The tax contained in it.
    pub tax: i64,
}

/// A line's or a fee's share: gross and the tax contained in it.
fn share(amount: i128, tax: i64, net: bool) -> Result<(i128, i128), Invalid> {
    let tax = i128::from(tax);
    let gross = if net { amount + tax } else { amount };
    if tax > gross {
        return Err(Invalid("must not be more than the amount that it is contained in"));
    }
    Ok((gross, tax))
}

/// Gross and contained tax of one priced line.
///
/// # Errors
/// If the discount is more than the line, or the tax more than the amount that contains it.
pub fn line(
    unit_price: i64,
    quantity: u32,
    discount: i64,
    tax: i64,
    net: bool,
) -> Result<(i128, i128), Invalid> {
    let amount = i128::from(unit_price) * i128::from(quantity) - i128::from(discount);
    if amount < 0 {
        return Err(Invalid("must not be more than the line comes to"));
    }
    share(amount, tax, net)
}

/// Gross and contained tax of the shipping fee.
///
/// # Errors
/// If the tax is more than the fee that contains it.
pub fn shipping(fee: i64, tax: i64, net: bool) -> Result<(i128, i128), Invalid> {
    share(i128::from(fee), tax, net)
}

/// The share of `units` out of `all` in an amount, rounded towards zero: computed from all that was
/// ever taken out, so that what is taken out bit by bit adds up to what is taken out at once.
pub fn part(amount: i128, units: u32, all: u32) -> i128 {
    // An amount is below 2^84 and units below 2^32, so the product fits.
    match units {
        0 => 0,
        _ if units == all => amount,
        _ if all == 0 => 0,
        _ => divided(amount * i128::from(units), i128::from(all)).0,
    }
}

/// Quotient and remainder. Nearly all amounts fit 64 bits, which processors divide by themselves.
fn divided(number: i128, by: i128) -> (i128, i128) {
    match (i64::try_from(number), i64::try_from(by)) {
        (Ok(number), Ok(by)) => ((number / by).into(), (number % by).into()),
        _ => (number / by, number % by),
    }
}

/// Shares an amount out in proportion to weights, to the last minor unit: each gets its share rounded
/// towards zero, and what is left goes to the largest remainders, the first of equal ones first. The
/// parts add up to the amount. Without any weight the first gets everything.
///
/// Shared out of a running sum (what all parts so far come to, less what was shared before), repeated
/// partial amounts add up as well.
pub fn allocate(amount: i64, weights: &[i64]) -> SmallVec<[i64; 4]> {
    let mut parts: SmallVec<[i64; 4]> = smallvec![0; weights.len()];
    let mut weighty = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
    let (first, second) = (weighty.next(), weighty.next());
    if second.is_none() {
        if let Some(only) = parts.get_mut(first.map_or(0, |(at, _)| at)) {
            *only = amount;
        }
        return parts;
    }
    let all: i128 = weights.iter().map(|w| i128::from(*w).max(0)).sum();
    let mut rests: SmallVec<[(i128, usize); 4]> = SmallVec::new();
    let mut left = i128::from(amount);
    for (at, weight) in weights.iter().enumerate() {
        let product = i128::from(amount) * i128::from(*weight).max(0);
        let (part, rest) = divided(product, all);
        // No larger than the amount, so it fits.
        parts[at] = part as i64;
        left -= part;
        rests.push((rest.abs(), at));
    }
    rests.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let step = left.signum() as i64;
    for (_, at) in rests.into_iter().take(left.unsigned_abs() as usize) {
        parts[at] += step;
    }
    parts
}

/// The sums of an order.
///
/// # Errors
/// If a line or the shipping fee does not add up, or the sum, or what it costs, is beyond what 64 bits
/// carry.
pub fn order(order: &OrderData) -> Result<Totals, Invalid> {
    let (mut gross, mut tax) = shipping(order.shipping, order.shipping_tax, order.net)?;
    for p in &order.prices {
        let (g, t) = line(p.unit_price, p.quantity, p.discount, p.tax, order.net)?;
        gross += g;
        tax += t;
    }
    // What it costs has the same limit, so that what is booked of that fits as well.
    let mut cost = 0;
    for p in &order.prices {
        cost += i128::from(p.unit_cost) * i128::from(p.quantity);
    }
    i64::try_from(cost).map_err(|_| Invalid("costs more than 2^63"))?;
    let fits = |sum: i128| i64::try_from(sum).map_err(|_| Invalid("comes to more than 2^63"));
    Ok(Totals { gross: fits(gross)?, tax: fits(tax)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gross_prices_contain_their_tax_and_net_ones_do_not() {
        assert_eq!(line(1999, 2, 0, 638, false), Ok((3998, 638)));
        assert_eq!(line(1680, 2, 60, 638, true), Ok((3938, 638)));
        assert!(line(10, 2, 21, 0, false).is_err());
        assert!(line(10, 2, 0, 21, false).is_err());
        assert!(shipping(0, 1, false).is_err());
        assert_eq!(shipping(0, 1, true), Ok((1, 1)));
    }

    proptest::proptest! {
        #[test]
        fn what_is_shared_out_adds_up_and_is_never_off_by_a_whole_unit(
            amount in -1_000_000_000_000_i64..1_000_000_000_000,
            weights in proptest::collection::vec(0_i64..1_000_000_000, 1..20),
        ) {
            let parts = allocate(amount, &weights);
            proptest::prop_assert_eq!(parts.iter().sum::<i64>(), amount);
            let all: i128 = weights.iter().map(|w| i128::from(*w)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let off = i128::from(*part) * all - i128::from(amount) * i128::from(*weight);
                proptest::prop_assert!(all == 0 || off.abs() < all);
            }
        }

        #[test]
        fn parts_taken_out_bit_by_bit_leave_nothing_over(
            amount in 0_i128..1_000_000_000_000,
            bits in proptest::collection::vec(1_u32..100, 1..10),
        ) {
            let all: u32 = bits.iter().sum();
            let (mut units, mut taken) = (0, 0);
            for bit in bits {
                let before = part(amount, units, all);
                units += bit;
                taken += part(amount, units, all) - before;
            }
            proptest::prop_assert_eq!(taken, amount);
        }
    }
}
