//! What an order comes to. One place for the arithmetic of money, so that the order that is shown
//! and the entry that is booked can't differ.

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

/// The sums of an order.
///
/// # Errors
/// If a line or the shipping fee does not add up, or the sum is beyond what 64 bits carry.
pub fn order(order: &OrderData) -> Result<Totals, Invalid> {
    let (mut gross, mut tax) = shipping(order.shipping, order.shipping_tax, order.net)?;
    for p in &order.prices {
        let (g, t) = line(p.unit_price, p.quantity, p.discount, p.tax, order.net)?;
        gross += g;
        tax += t;
    }
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
}
