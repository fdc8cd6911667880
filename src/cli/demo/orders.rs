//! Real orders from a delimited file: customer, time, quantity, amount. Each line becomes a visit
//! that reserves and pays, at its time, compressed.
//!
//! - Columns are named by number (from 1) or, where the first line is a header, by name.
//! - Amounts are decimals of the currency's major unit with at most two places; they become minor
//!   units exactly. An order of quantity q and amount A costs ceil(A / q) a unit, less a discount
//!   that makes its total A to the cent.
//! - Where the file names no SKU, a fixed number of them is dealt out by line number.
//! - Stock is set to exactly what the file sells: if a single unit that is there were refused, the
//!   total would show it.
//! - Times without a time of day are spread over their day.
//! - A line that can't be read is an error with its number; nothing is skipped but blank lines.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use holdfast::model::{Currency, CustomerId, OrderId, Quantity, Sku};

use super::{
    super::Error,
    sale,
    visit::{CartLine, Ending, Item, Plan, Repeat, Visit},
};

/// SKUs that orders without one are dealt out to.
const DEALT_SKUS: u64 = 500;
/// The largest file.
const FILE_BYTES_MAX: u64 = 1 << 30;
const DAY_MS: i64 = 86_400_000;

/// What stands between fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Delimiter {
    /// One or more spaces or tabs.
    Whitespace,
    /// A comma; fields may be quoted.
    Comma,
    /// One tab.
    Tab,
}

/// How to read the file. The defaults fit the CDNOW data set.
#[derive(Debug, Clone, Args)]
pub struct Orders {
    /// Replay the orders of this file instead of an invented sale.
    #[arg(long, value_name = "FILE")]
    pub orders: Option<PathBuf>,
    /// The customer's column, by number from 1 or by name.
    #[arg(long, value_name = "COLUMN", default_value = "1", requires = "orders")]
    customer_column: String,
    /// The time's column.
    #[arg(long, value_name = "COLUMN", default_value = "2", requires = "orders")]
    time_column: String,
    /// The column of the number of units.
    #[arg(long, value_name = "COLUMN", default_value = "3", requires = "orders")]
    quantity_column: String,
    /// The column of the order's amount.
    #[arg(long, value_name = "COLUMN", default_value = "4", requires = "orders")]
    amount_column: String,
    /// The SKU's column, if there is one.
    #[arg(long, value_name = "COLUMN", requires = "orders")]
    sku_column: Option<String>,
    /// What stands between fields.
    #[arg(long, value_enum, default_value_t = Delimiter::Whitespace, requires = "orders")]
    delimiter: Delimiter,
    /// How times are written, as in strptime.
    #[arg(long, value_name = "FORMAT", default_value = "%Y%m%d", requires = "orders")]
    date_format: String,
    /// The currency of the amounts.
    #[arg(long, value_name = "ISO 4217", default_value = "USD", requires = "orders")]
    currency: String,
    /// How many seconds of the file pass in a second; without it, as many as make the replay
    /// last --seconds.
    #[arg(long, value_name = "FACTOR", requires = "orders")]
    speed: Option<f64>,
}

/// An order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    line: u64,
    customer: CustomerId,
    at_ms: i64,
    quantity: u32,
    amount: i64,
    sku: Sku,
}

/// Plans the replay of a file.
pub fn plan(file: &Path, how: &Orders, seconds: f64) -> Result<Plan, Error> {
    let text = read(file)?;
    let mut orders = parse(&text, how).map_err(|(line, reason)| Error::Line {
        path: file.to_owned(),
        line,
        reason,
    })?;
    if orders.is_empty() {
        return Err(Error::Usage(format!("{}: has no orders", file.display())));
    }
    // Stable, so that orders of one time keep the file's order.
    orders.sort_by_key(|order| order.at_ms);
    let times = spread(&orders);
    let speed = speed(how.speed, &times, seconds)?;
    let catalogue = Catalogue::of(&orders)?;
    let units = orders.iter().map(|order| u64::from(order.quantity)).sum();
    let minor = orders.iter().map(|order| order.amount).sum();
    let visits = orders
        .iter()
        .zip(&times)
        .map(|(order, at)| visit(order, (at - times[0]) / 1000.0 / speed, &catalogue))
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(Plan {
        title: format!("{} orders of {}", orders.len(), file.display()),
        currency: Currency::new(&how.currency)
            .map_err(|e| Error::Usage(format!("--currency {e}")))?,
        tax_code: None,
        catalogue: catalogue.items,
        visits,
        phases: phases(&orders, &times, speed),
        must_sell: Some((units, minor)),
    })
}

fn read(file: &Path) -> Result<String, Error> {
    let failed = |source| Error::File { path: file.to_owned(), source };
    let bytes = fs::metadata(file).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Error::Usage(format!("{}: is larger than 1 GiB", file.display())));
    }
    fs::read_to_string(file).map_err(failed)
}

/// Milliseconds of the file's time for each order: orders of one instant are spread up to the next
/// instant that the file knows, but not beyond their day.
fn spread(orders: &[Order]) -> Vec<f64> {
    let mut times = Vec::with_capacity(orders.len());
    for group in orders.chunk_by(|a, b| a.at_ms == b.at_ms) {
        let next = orders.get(times.len() + group.len()).map_or(i64::MAX, |order| order.at_ms);
        let room = (next - group[0].at_ms).min(DAY_MS) as f64;
        let step = room / group.len() as f64;
        times.extend((0..group.len()).map(|i| group[0].at_ms as f64 + step * i as f64));
    }
    times
}

/// The factor asked for, or the one that makes the replay last so many seconds.
fn speed(asked: Option<f64>, times: &[f64], seconds: f64) -> Result<f64, Error> {
    if let Some(speed) = asked {
        if !(speed > 0.0 && speed.is_finite()) {
            return Err(Error::Usage("--speed must be above 0".to_owned()));
        }
        return Ok(speed);
    }
    if !(seconds > 0.0 && seconds.is_finite()) {
        return Err(Error::Usage("--seconds must be above 0".to_owned()));
    }
    let span_ms = times[times.len() - 1] - times[0];
    Ok((span_ms / 1000.0 / seconds).max(f64::MIN_POSITIVE))
}

/// A phase for each month of the file.
fn phases(orders: &[Order], times: &[f64], speed: f64) -> Vec<(Duration, String)> {
    let mut phases: Vec<(Duration, String)> = Vec::new();
    for (order, at) in orders.iter().zip(times) {
        let day = jiff::Timestamp::from_millisecond(order.at_ms).unwrap_or_default();
        let month: String = day.to_string().chars().take(7).collect();
        if phases.last().is_none_or(|(_, last)| *last != month) {
            let begin = Duration::from_secs_f64((at - times[0]) / 1000.0 / speed);
            phases.push((begin, month));
        }
    }
    phases
}

struct Catalogue {
    items: Vec<Item>,
    places: std::collections::HashMap<Sku, usize>,
}

impl Catalogue {
    fn of(orders: &[Order]) -> Result<Self, Error> {
        let mut units: std::collections::BTreeMap<&Sku, u64> = std::collections::BTreeMap::new();
        for order in orders {
            *units.entry(&order.sku).or_default() += u64::from(order.quantity);
        }
        let near = sale::locations()?.0;
        let items = units
            .iter()
            .map(|(sku, units)| {
                let units = u32::try_from(*units)
                    .map_err(|_| Error::Usage(format!("`{sku}` sells more than a stock holds")))?;
                let stock = vec![(near.clone(), units)];
                Ok(Item { sku: (*sku).clone(), stock, per_customer_limit: None, hot: false })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let places = items.iter().enumerate().map(|(i, item)| (item.sku.clone(), i)).collect();
        Ok(Self { items, places })
    }
}

fn visit(order: &Order, due: f64, catalogue: &Catalogue) -> Result<Visit, Error> {
    let (unit_price, discount) = price(order.quantity, order.amount);
    let order_id: OrderId = format!("L{}", order.line)
        .parse()
        .map_err(|e: holdfast::model::Invalid| Error::Usage(e.to_string()))?;
    Ok(Visit {
        due: Duration::from_secs_f64(due),
        order_id,
        customer: order.customer.clone(),
        cart: vec![CartLine {
            item: catalogue.places[&order.sku],
            quantity: order.quantity,
            location: None,
            unit_price,
            discount,
            tax: 0,
        }],
        shipping: 0,
        shipping_tax: 0,
        ttl_ms: None,
        pause: Duration::ZERO,
        ending: Ending::Pays,
        repeat: Repeat::Nothing,
    })
}

/// The unit price and discount that make `quantity` units cost `amount`.
fn price(quantity: u32, amount: i64) -> (i64, i64) {
    let quantity = i64::from(quantity.max(1));
    let unit_price = amount / quantity + i64::from(amount % quantity != 0);
    (unit_price, unit_price * quantity - amount)
}

/// What is wrong, and in which line.
type Wrong = (u64, String);

fn parse(text: &str, how: &Orders) -> Result<Vec<Order>, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let mut orders = Vec::new();
    let Some((number, first)) = lines.next() else { return Ok(orders) };
    let first = fields(first, how.delimiter).map_err(|e| (number, e))?;
    let columns = Columns::find(how, &first).map_err(|e| (number, e))?;
    if !columns.is_header(&first, how) {
        orders.push(columns.order(number, &first, how).map_err(|e| (number, e))?);
    }
    for (number, line) in lines {
        let fields = fields(line, how.delimiter).map_err(|e| (number, e))?;
        orders.push(columns.order(number, &fields, how).map_err(|e| (number, e))?);
    }
    Ok(orders)
}

fn fields(line: &str, delimiter: Delimiter) -> Result<Vec<String>, String> {
    let delimiter = match delimiter {
        Delimiter::Whitespace => return Ok(line.split_whitespace().map(str::to_owned).collect()),
        Delimiter::Comma => b',',
        Delimiter::Tab => b'\t',
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(line.as_bytes());
    let mut record = csv::StringRecord::new();
    reader.read_record(&mut record).map_err(|e| e.to_string())?;
    Ok(record.iter().map(str::to_owned).collect())
}

/// Where each field stands, from 0.
struct Columns {
    named: bool,
    customer: usize,
    time: usize,
    quantity: usize,
    amount: usize,
    sku: Option<usize>,
}

impl Columns {
    fn find(how: &Orders, first: &[String]) -> Result<Self, String> {
        let mut named = false;
        let mut at = |flag: &str, column: &str| match column.parse::<usize>() {
            Ok(0) => Err(format!("{flag}: columns are counted from 1")),
            Ok(number) => Ok(number - 1),
            Err(_) => {
                named = true;
                let missing = || format!("{flag}: the first line has no column `{column}`");
                first.iter().position(|name| name == column).ok_or_else(missing)
            }
        };
        let customer = at("--customer-column", &how.customer_column)?;
        let time = at("--time-column", &how.time_column)?;
        let quantity = at("--quantity-column", &how.quantity_column)?;
        let amount = at("--amount-column", &how.amount_column)?;
        let sku = how.sku_column.as_deref().map(|column| at("--sku-column", column)).transpose()?;
        Ok(Self { named, customer, time, quantity, amount, sku })
    }

    /// Whether the first line names columns: one of them was found by name, or none of what must be
    /// a time or a number in an order is one.
    fn is_header(&self, first: &[String], how: &Orders) -> bool {
        let absent = |at: usize, reads: fn(&str, &Orders) -> bool| {
            first.get(at).is_some_and(|field| !reads(field, how))
        };
        self.named
            || absent(self.time, |field, how| time(field, &how.date_format).is_ok())
                && absent(self.quantity, |field, _| field.parse::<f64>().is_ok())
                && absent(self.amount, |field, _| field.parse::<f64>().is_ok())
    }

    fn order(&self, line: u64, fields: &[String], how: &Orders) -> Result<Order, String> {
        let field = |what: &str, at: usize| {
            let missing =
                || format!("has {} fields, the {what} is number {}", fields.len(), at + 1);
            fields.get(at).map(String::as_str).ok_or_else(missing)
        };
        let customer = field("customer", self.customer)?;
        let quantity = field("quantity", self.quantity)?;
        let sku = match self.sku {
            Some(at) => field("SKU", at)?.to_owned(),
            None => format!("CD-{:03}", line % DEALT_SKUS),
        };
        Ok(Order {
            line,
            customer: customer.parse().map_err(|e| format!("the customer {e}"))?,
            at_ms: time(field("time", self.time)?, &how.date_format)?,
            quantity: quantity
                .parse()
                .ok()
                .and_then(|units| Quantity::new(units).ok())
                .ok_or_else(|| format!("the quantity `{quantity}` is not 1 to 1000000"))?
                .get(),
            amount: minor_units(field("amount", self.amount)?)?,
            sku: sku.parse().map_err(|e| format!("the SKU {e}"))?,
        })
    }
}

/// Milliseconds since 1970 of a time, taken as UTC where it names no offset.
fn time(text: &str, format: &str) -> Result<i64, String> {
    let wrong = |e: jiff::Error| format!("the time `{text}` is not like {format}: {e}");
    let broken = jiff::fmt::strtime::parse(format, text).map_err(wrong)?;
    if let Ok(instant) = broken.to_timestamp() {
        return Ok(instant.as_millisecond());
    }
    let civil = match broken.to_datetime() {
        Ok(civil) => civil,
        Err(_) => broken.to_date().map_err(wrong)?.at(0, 0, 0, 0),
    };
    let instant = jiff::tz::TimeZone::UTC.to_timestamp(civil).map_err(wrong)?;
    Ok(instant.as_millisecond())
}

/// Minor units of a decimal with at most two places, exactly.
fn minor_units(text: &str) -> Result<i64, String> {
    let wrong = || format!("the amount `{text}` is not a sum of money such as 11.77");
    let (major, minor) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if major.is_empty() || minor.len() > 2 || !digits(major) || !digits(minor) {
        return Err(wrong());
    }
    let padded: i64 = format!("{minor:0<2}").parse().map_err(|_| wrong())?;
    let major: i64 = major.parse().map_err(|_| wrong())?;
    let all = major.checked_mul(100).and_then(|m| m.checked_add(padded)).ok_or_else(wrong)?;
    holdfast::model::Amount::new(all).map_err(|e| format!("the amount `{text}` {e}"))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        orders: Orders,
    }

    fn how(arguments: &[&str]) -> Orders {
        let all = ["x", "--orders", "f"].iter().chain(arguments);
        Line::parse_from(all).orders
    }

    const CDNOW: &str = " customer_id  date number_of_cds  dollar_value\r\n \
                         00001 19970101  1   11.77\r\n 00002 19970112  5   77.00\r\n";

    #[test]
    fn the_form_of_the_cdnow_file_is_read() {
        let orders = parse(CDNOW, &how(&[])).unwrap();
        assert_eq!(orders.len(), 2);
        let first = &orders[0];
        assert_eq!((first.line, first.customer.as_str()), (2, "00001"));
        assert_eq!((first.quantity, first.amount), (1, 1177));
        assert_eq!(first.at_ms, 852_076_800_000);
        let without_header: String = CDNOW.lines().skip(1).map(|l| format!("{l}\n")).collect();
        assert_eq!(parse(&without_header, &how(&[])).unwrap().len(), 2);
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "when,who,\"how, many\",sku,paid\n2024-05-01T12:00:00+0200,c,3,A,10\n\n\
                    2024-05-01T10:00:01+0000,\"d, e\",1,B,0.5\n";
        let how = how(&[
            "--delimiter=comma",
            "--customer-column=who",
            "--time-column=when",
            "--quantity-column=how, many",
            "--amount-column=paid",
            "--sku-column=sku",
            "--date-format=%Y-%m-%dT%H:%M:%S%z",
        ]);
        let orders = parse(text, &how).unwrap();
        assert_eq!(orders[0].at_ms + 1000, orders[1].at_ms);
        assert_eq!((orders[1].line, orders[1].customer.as_str()), (4, "d, e"));
        assert_eq!((orders[0].amount, orders[1].amount), (1000, 50));
        assert_eq!(orders[1].sku.as_str(), "B");
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (line, reason) in [
            ("1 19970101 1", "has 3 fields, the amount is number 4"),
            ("1 19971301 1 1.00", "the time `19971301` is not like %Y%m%d"),
            ("1 19970101 x 1.00", "the quantity `x`"),
            ("1 19970101 0 1.00", "the quantity `0`"),
            ("1 19970101 -1 1.00", "the quantity `-1`"),
            ("1 19970101 1 1.005", "the amount `1.005`"),
            ("1 19970101 1 -1.00", "the amount `-1.00`"),
            ("1 19970101 1 .5", "the amount `.5`"),
            ("1 19970101 1 99999999999999.00", "the amount `99999999999999.00`"),
            ("\u{e4} 19970101 1 1.00", "the customer must be printable ASCII"),
        ] {
            let (number, found) = parse(&format!("{CDNOW}\r\n{line}\r\n"), &how(&[])).unwrap_err();
            assert_eq!(number, 5, "{line}");
            assert!(found.contains(reason), "{line}: {found}");
        }
    }

    #[test]
    fn a_first_line_that_is_half_an_order_is_no_header() {
        let (number, reason) = parse("1 19970101 x 1.00\n", &how(&[])).unwrap_err();
        assert_eq!((number, reason.contains("quantity")), (1, true), "{reason}");
        let (_, reason) = parse(CDNOW, &how(&["--customer-column=0"])).unwrap_err();
        assert!(reason.contains("counted from 1"), "{reason}");
        let (_, reason) = parse(CDNOW, &how(&["--customer-column=who"])).unwrap_err();
        assert!(reason.contains("no column `who`"), "{reason}");
    }

    #[test]
    fn a_price_and_a_discount_make_the_amount_to_the_cent() {
        for quantity in 1..40 {
            for amount in (0..500).chain([1_000_000_007]) {
                let (unit_price, discount) = price(quantity, amount);
                assert_eq!(unit_price * i64::from(quantity) - discount, amount);
                assert!((0..i64::from(quantity)).contains(&discount));
            }
        }
    }

    #[test]
    fn orders_of_one_day_are_spread_over_it_and_stay_in_order() {
        let text = "b 19970102 1 1\na 19970101 1 1\nc 19970102 1 1\nd 19980102 1 1\n";
        let mut orders = parse(text, &how(&[])).unwrap();
        orders.sort_by_key(|order| order.at_ms);
        let customers: Vec<_> = orders.iter().map(|o| o.customer.as_str()).collect();
        assert_eq!(customers, ["a", "b", "c", "d"]);
        let hours: Vec<_> =
            spread(&orders).iter().map(|at| (at - orders[0].at_ms as f64) / 3.6e6).collect();
        assert_eq!(hours, [0.0, 24.0, 36.0, 366.0 * 24.0]);
    }

    #[test]
    fn the_stock_is_exactly_what_the_file_sells() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders");
        fs::write(&file, CDNOW).unwrap();
        let plan = plan(&file, &how(&[]), 10.0).unwrap();
        assert_eq!(plan.must_sell, Some((6, 1177 + 7700)));
        assert_eq!(plan.catalogue.iter().map(Item::units).sum::<u64>(), 6);
        assert_eq!(plan.visits.iter().map(Visit::total).sum::<i64>(), 1177 + 7700);
        assert_eq!(plan.visits[1].due, Duration::from_secs(10));
    }
}
