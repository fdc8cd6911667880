//! Double-entry postings of the log's records: the one place that says which account a record
//! debits and which it credits. Feed, verification and exports all ask here.
//!
//! # What it promises
//!
//! - A posting depends on the record alone, and on when revenue is recognised.
//! - What a record posts adds up to nothing: it is checked, and a record that does not balance is an
//!   error, never an entry.
//!
//! # What is posted
//!
//! Debit is positive, credit negative; zero amounts are left out. Revenue, tax and refunds are posted by
//! tax code.
//!
//! - What is recognised debits the receivable and credits revenue, tax and shipping; a cancellation
//!   undoes it for what is called off.
//! - A settlement credits the receivable; the processor's fee is debited to fees, the rest to clearing.
//! - A refund credits clearing. It debits the receivable with what the customer had paid beyond what is
//!   sold and not called off, refunds and tax with the rest (see [`super::worth`]).
//! - Goods that leave debit the cost of goods sold and credit inventory, where their cost is known. Goods
//!   that come back credit it and debit inventory, or the write-off if they are not sold again.

use super::{
    Currency, Invalid, Lsn,
    event::{self, ArchivedHappened, ArchivedOrderData, ArchivedPlaced, Event, Happened, Placed},
    fact::ArchivedFact,
    totals,
    worth::{ArchivedPart, ArchivedShare},
};

pub use super::worth::Recognition;

/// An account of the books.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// What customers owe, tax contained.
    Receivable,
    /// Sales of goods, without tax.
    Revenue,
    /// Tax owed.
    Tax,
    /// Shipping fees, without tax.
    Shipping,
    /// Money that the payment provider owes.
    Clearing,
    /// What the payment provider keeps.
    Fees,
    /// Sales given back, without tax.
    Refunds,
    /// Goods on hand, at cost.
    Inventory,
    /// What goods cost that were sold.
    CostOfGoods,
    /// What goods cost that came back and can't be sold again.
    WriteOff,
}

impl Account {
    /// All of them, in the order of the chart.
    pub const ALL: [Self; 10] = [
        Self::Receivable,
        Self::Revenue,
        Self::Tax,
        Self::Shipping,
        Self::Clearing,
        Self::Fees,
        Self::Refunds,
        Self::Inventory,
        Self::CostOfGoods,
        Self::WriteOff,
    ];
}

/// What kind of thing is booked; in the order in which a business does them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = EntryKind)]
pub enum Kind {
    /// The customer owes: an order, recognised at its commit, or an invoice, recognised as such.
    Invoice,
    /// Goods left.
    Shipment,
    /// Something is called off.
    Cancellation,
    /// The customer paid.
    Settlement,
    /// The customer got money back.
    Refund,
    /// Goods came back and are sold again.
    Return,
    /// Goods came back and are not sold again.
    WriteOff,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Shipment => "shipment",
            Self::Cancellation => "cancellation",
            Self::Settlement => "settlement",
            Self::Refund => "refund",
            Self::Return => "return",
            Self::WriteOff => "write_off",
        }
    }
}

/// An amount on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting<'a> {
    /// Where.
    pub account: Account,
    /// The tax code; empty: none.
    pub tax_code: &'a str,
    /// Minor units, debit positive.
    pub amount: i128,
}

/// What a record books. The amounts add up to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking<'a> {
    /// What kind of thing.
    pub kind: Kind,
    /// Whose order.
    pub order_id: &'a str,
    /// The fact's own id; empty where an order was placed.
    pub id: &'a str,
    /// The currency of every amount.
    pub currency: Currency,
    /// Which account gets what. The same account and code may stand several times.
    pub postings: Vec<Posting<'a>>,
}

/// Why a record can't be booked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what its header says.
    #[error(transparent)]
    Undecodable(#[from] event::Undecodable),
    /// Its amounts make no sense: they were checked when the order was placed.
    #[error("the amounts of the order at {lsn} make no sense: one {source}")]
    Amounts {
        /// The record.
        lsn: Lsn,
        /// What is wrong.
        source: Invalid,
    },
    /// Its postings do not add up to nothing.
    #[error("the record at {lsn} does not balance by {by} minor units; nothing was posted")]
    Unbalanced {
        /// The record.
        lsn: Lsn,
        /// Debit less credit.
        by: i128,
    },
}

/// A record that may be something to the books, read in place: it is checked once, whatever is asked
/// of it.
#[derive(Clone, Copy)]
pub enum Read<'a> {
    /// An order was placed.
    Placed(&'a ArchivedPlaced),
    /// Something happened to one.
    Happened(&'a ArchivedHappened),
}

/// Reads a record; `None` if its kind is nothing to the books.
///
/// # Errors
/// If the record does not decode.
pub fn read(
    lsn: Lsn,
    (kind, version): (u8, u8),
    body: &[u8],
) -> Result<Option<Read<'_>>, event::Undecodable> {
    Ok(match kind {
        Placed::KIND => Some(Read::Placed(event::decode::<Placed>(lsn, kind, version, body)?)),
        Happened::KIND => {
            Some(Read::Happened(event::decode::<Happened>(lsn, kind, version, body)?))
        }
        _ => None,
    })
}

impl<'a> Read<'a> {
    /// What the record books; `None` if it is nothing to the books.
    ///
    /// # Errors
    /// If it can't be booked.
    pub fn booking(self, lsn: Lsn, when: Recognition) -> Result<Option<Booking<'a>>, Error> {
        let booking = match self {
            Self::Placed(read) => {
                placed(&read.order, when).map_err(|source| Error::Amounts { lsn, source })?
            }
            Self::Happened(read) => happened(read, when),
        };
        let by = booking.iter().flat_map(|b| &b.postings).map(|posting| posting.amount).sum();
        if by != 0 {
            return Err(Error::Unbalanced { lsn, by });
        }
        Ok(booking)
    }
}

/// What a record of the log books; `None` if it is nothing to the books.
///
/// # Errors
/// If the record does not decode, or can't be booked.
pub fn of(
    lsn: Lsn,
    layout: (u8, u8),
    body: &[u8],
    when: Recognition,
) -> Result<Option<Booking<'_>>, Error> {
    match read(lsn, layout, body)? {
        Some(read) => read.booking(lsn, when),
        None => Ok(None),
    }
}

/// Postings in the making.
struct Postings<'a>(Vec<Posting<'a>>);

impl<'a> Postings<'a> {
    fn debit(&mut self, account: Account, tax_code: &'a str, amount: i128) {
        if amount != 0 {
            self.0.push(Posting { account, tax_code, amount });
        }
    }

    fn credit(&mut self, account: Account, tax_code: &'a str, amount: i128) {
        self.debit(account, tax_code, -amount);
    }

    /// A customer's money: the receivable gets the other side.
    fn share(&mut self, share: &'a ArchivedShare) {
        let (net, tax) = (i128::from(share.net.to_native()), i128::from(share.tax.to_native()));
        let tax_code = share.tax_code.as_str();
        match share.part {
            ArchivedPart::Goods => self.credit(Account::Revenue, tax_code, net),
            ArchivedPart::Fee => self.credit(Account::Shipping, tax_code, net),
            ArchivedPart::Refund => {
                self.debit(Account::Refunds, tax_code, net);
                self.debit(Account::Tax, tax_code, tax);
                self.credit(Account::Receivable, "", net + tax);
                return;
            }
        }
        self.credit(Account::Tax, tax_code, tax);
        self.debit(Account::Receivable, "", net + tax);
    }
}

/// What a placed order books: everything if it is recognised now, else nothing yet. The arithmetic is
/// the one that the order itself is shown with.
fn placed(order: &ArchivedOrderData, when: Recognition) -> Result<Option<Booking<'_>>, Invalid> {
    if when != Recognition::Commit {
        return Ok(None);
    }
    let mut postings = Postings(Vec::with_capacity(2 * order.prices.len() + 3));
    let mut receivable = 0;
    for line in order.prices.iter() {
        let (gross, tax) = totals::line(
            line.unit_price.to_native(),
            line.quantity.to_native(),
            line.discount.to_native(),
            line.tax.to_native(),
            order.net,
        )?;
        receivable += gross;
        postings.credit(Account::Revenue, line.tax_code.as_str(), gross - tax);
        postings.credit(Account::Tax, line.tax_code.as_str(), tax);
    }
    let (fee, tax) = (order.shipping.to_native(), order.shipping_tax.to_native());
    let (gross, tax) = totals::shipping(fee, tax, order.net)?;
    receivable += gross;
    postings.credit(Account::Shipping, "", gross - tax);
    postings.credit(Account::Tax, "", tax);
    postings.debit(Account::Receivable, "", receivable);
    Ok(Some(Booking {
        kind: Kind::Invoice,
        order_id: order.order_id.as_str(),
        id: "",
        currency: Currency::from_bytes(order.currency),
        postings: postings.0,
    }))
}

/// What a fact books; `None` if that is nothing.
fn happened(record: &ArchivedHappened, when: Recognition) -> Option<Booking<'_>> {
    let worth = &record.worth;
    // At most three for a share and three for the rest: memory is taken once.
    let mut postings = Postings(Vec::with_capacity(3 * worth.shares.len() + 3));
    let bit = 1 << when as u8;
    worth.shares.iter().filter(|share| share.when & bit != 0).for_each(|s| postings.share(s));
    let cost = i128::from(worth.cost.to_native());
    let kind = match &record.fact {
        ArchivedFact::Shipment { .. } => {
            postings.debit(Account::CostOfGoods, "", cost);
            postings.credit(Account::Inventory, "", cost);
            Kind::Shipment
        }
        ArchivedFact::Cancellation { .. } => Kind::Cancellation,
        ArchivedFact::Invoice { .. } => Kind::Invoice,
        ArchivedFact::Settlement { amount, fee } => {
            let (amount, fee) = (i128::from(amount.to_native()), i128::from(fee.to_native()));
            postings.debit(Account::Clearing, "", amount - fee);
            postings.debit(Account::Fees, "", fee);
            postings.credit(Account::Receivable, "", amount);
            Kind::Settlement
        }
        ArchivedFact::Refund { amount, .. } => {
            let amount = i128::from(amount.to_native());
            postings.credit(Account::Clearing, "", amount);
            postings.debit(Account::Receivable, "", amount);
            Kind::Refund
        }
        ArchivedFact::Receipt { restock, .. } => {
            let (account, kind) = match restock {
                true => (Account::Inventory, Kind::Return),
                false => (Account::WriteOff, Kind::WriteOff),
            };
            postings.debit(account, "", cost);
            postings.credit(Account::CostOfGoods, "", cost);
            kind
        }
        ArchivedFact::Return { .. } | ArchivedFact::Note { .. } => return None,
    };
    (!postings.0.is_empty()).then(|| Booking {
        kind,
        order_id: record.order_id.as_str(),
        id: record.id.as_str(),
        currency: Currency::from_bytes(worth.currency),
        postings: postings.0,
    })
}

#[cfg(test)]
#[path = "posting_tests.rs"]
mod tests;
