//! The invented flash sale: a few hot items and a long tail, carts of one to three lines, arrivals
//! at a baseline, then five times as many (+400 %), then the baseline again. The hot items are
//! stocked for a third of what will be asked for, so that they sell out during the rush.

use std::{collections::HashMap, time::Duration};

use holdfast::model::{Currency, CustomerId, Location, OrderId, Reference, Sku};

use super::{
    super::Error,
    random::{Dice, Zipf},
    visit::{CartLine, Ending, Item, Plan, Repeat, Visit},
};

/// Items that everybody wants.
const HOT_ITEMS: usize = 8;
/// The others.
const TAIL_ITEMS: usize = 992;
/// The rush has so many times the arrivals of the baseline.
const RUSH: f64 = 5.0;
/// The rush begins and ends at these shares of the sale's length.
const RUSH_BEGIN: f64 = 0.25;
const RUSH_END: f64 = 0.75;
/// Hot items are stocked for this share of the expected demand.
const HOT_STOCK_SHARE: f64 = 0.33;
/// Units of a hot item that one customer may take.
const HOT_LIMIT: u32 = 2;
/// How long a cart is held.
const TTL_MS: u64 = 3_000;
/// Value added tax contained in every price, in percent.
const TAX_PERCENT: i64 = 19;
/// The share of the visits that bots make, and how often each comes.
const BOT_VISITS: f64 = 0.03;
const VISITS_OF_A_BOT: f64 = 20.0;
/// Visits of a plan.
const VISITS_MAX: f64 = 5_000_000.0;

/// What can be chosen about a sale.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its length.
    pub seconds: f64,
    /// Shoppers a second at the baseline.
    pub rate: f64,
    /// The seed of the dice.
    pub seed: u64,
}

impl Shape {
    /// The expected number of visits.
    fn visits(&self) -> f64 {
        let rush = RUSH_END - RUSH_BEGIN;
        self.seconds * self.rate * (1.0 - rush + RUSH * rush)
    }

    fn bots(&self) -> u64 {
        (self.visits() * BOT_VISITS / VISITS_OF_A_BOT).max(1.0) as u64
    }

    fn in_rush(&self, at: f64) -> bool {
        (RUSH_BEGIN * self.seconds..RUSH_END * self.seconds).contains(&at)
    }

    fn check(&self) -> Result<(), Error> {
        if !(self.seconds > 0.0 && self.rate > 0.0 && self.visits() <= VISITS_MAX) {
            return Err(Error::Usage(format!(
                "--seconds and --rate must be above 0 and make at most {VISITS_MAX} visits"
            )));
        }
        Ok(())
    }
}

/// Plans a sale.
pub fn plan(shape: Shape) -> Result<Plan, Error> {
    shape.check()?;
    let shop = Shop { hot: Zipf::new(HOT_ITEMS, 0.8), tail: Zipf::new(TAIL_ITEMS, 1.0), shape };
    let mut visits = Vec::new();
    let mut clock = Dice::new(shape.seed, u64::MAX);
    let mut at = 0.0;
    loop {
        let rate = shape.rate * if shape.in_rush(at) { RUSH } else { 1.0 };
        at += clock.wait(1.0 / rate);
        if at >= shape.seconds {
            break;
        }
        visits.push(shop.visit(visits.len() as u64 + 1, at)?);
    }
    let catalogue = shop.catalogue(&demand(&visits))?;
    let phase =
        |share: f64, name: &str| (Duration::from_secs_f64(share * shape.seconds), name.to_owned());
    Ok(Plan {
        title: format!("flash sale, seed {}", shape.seed),
        currency: Currency::new("EUR").map_err(usage)?,
        tax_code: Some("DE-19".parse::<Reference>().map_err(usage)?),
        catalogue,
        visits,
        phases: vec![
            phase(0.0, "baseline"),
            phase(RUSH_BEGIN, "rush +400 %"),
            phase(RUSH_END, "baseline"),
        ],
        must_sell: None,
    })
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}

/// Units asked for by item.
fn demand(visits: &[Visit]) -> HashMap<usize, u64> {
    let mut demand = HashMap::new();
    for line in visits.iter().flat_map(|visit| &visit.cart) {
        *demand.entry(line.item).or_default() += u64::from(line.quantity);
    }
    demand
}

struct Shop {
    hot: Zipf,
    tail: Zipf,
    shape: Shape,
}

impl Shop {
    fn catalogue(&self, demand: &HashMap<usize, u64>) -> Result<Vec<Item>, Error> {
        (0..HOT_ITEMS + TAIL_ITEMS).map(|item| self.item(item, demand.get(&item))).collect()
    }

    fn item(&self, item: usize, demand: Option<&u64>) -> Result<Item, Error> {
        let demand = demand.copied().unwrap_or_default() as f64;
        let hot = item < HOT_ITEMS;
        let units = if hot { demand * HOT_STOCK_SHARE } else { demand * 1.5 + 10.0 };
        let units = (units.ceil() as u32).max(2);
        let (near, far) = locations()?;
        let near_units = units * 6 / 10;
        Ok(Item {
            sku: sku(item)?,
            stock: vec![(near, near_units), (far, units - near_units)],
            per_customer_limit: hot.then_some(HOT_LIMIT),
            hot,
        })
    }

    fn visit(&self, number: u64, at: f64) -> Result<Visit, Error> {
        let mut dice = Dice::new(self.shape.seed, number);
        let customer = self.customer(&mut dice);
        let cart = self.cart(&mut dice, at, customer < self.shape.bots())?;
        let shipping = 490;
        Ok(Visit {
            due: Duration::from_secs_f64(at),
            order_id: format!("O-{number:07}").parse::<OrderId>().map_err(usage)?,
            customer: format!("c-{customer}").parse::<CustomerId>().map_err(usage)?,
            cart,
            shipping,
            shipping_tax: tax_in(shipping),
            ttl_ms: Some(TTL_MS),
            pause: Duration::from_millis(50 + dice.below(350)),
            ending: match dice.below(100) {
                0..8 => Ending::PaymentFails,
                8..15 => Ending::Abandons,
                _ => Ending::Pays,
            },
            repeat: match dice.below(100) {
                0..3 => Repeat::ReservationAtOnce,
                3..6 => Repeat::ReservationLater,
                6..9 => Repeat::Payment,
                _ => Repeat::Nothing,
            },
        })
    }

    /// Most customers come once or twice; a few are bots and come all the time.
    fn customer(&self, dice: &mut Dice) -> u64 {
        let bots = self.shape.bots();
        if dice.happens(BOT_VISITS) {
            return dice.below(bots);
        }
        bots + dice.below((self.shape.visits() / 2.0).max(1.0) as u64)
    }

    fn cart(&self, dice: &mut Dice, at: f64, bot: bool) -> Result<Vec<CartLine>, Error> {
        let lines = match dice.below(100) {
            _ if bot => 1,
            0..70 => 1,
            70..90 => 2,
            _ => 3,
        };
        let hot_share = match (bot, self.shape.in_rush(at)) {
            (true, _) => 1.0,
            (false, true) => 0.6,
            (false, false) => 0.3,
        };
        let mut cart: Vec<CartLine> = Vec::with_capacity(lines);
        while cart.len() < lines {
            let item = if cart.is_empty() && dice.happens(hot_share) {
                self.hot.choose(dice)
            } else {
                HOT_ITEMS + self.tail.choose(dice)
            };
            if cart.iter().all(|line| line.item != item) {
                cart.push(self.line(dice, item)?);
            }
        }
        Ok(cart)
    }

    fn line(&self, dice: &mut Dice, item: usize) -> Result<CartLine, Error> {
        let quantity = if dice.happens(0.2) { 2 } else { 1 };
        // A price belongs to the item, not to the shopper.
        let unit_price = 499 + 100 * Dice::new(self.shape.seed, item as u64).below(120) as i64;
        let full = unit_price * i64::from(quantity);
        let discount = if dice.happens(0.1) { full / 10 } else { 0 };
        let location = if dice.happens(0.05) { Some(locations()?.1) } else { None };
        let tax = tax_in(full - discount);
        Ok(CartLine { item, quantity, location, unit_price, discount, tax })
    }
}

/// Where stock lies: near first.
pub fn locations() -> Result<(Location, Location), Error> {
    Ok(("BER".parse().map_err(usage)?, "HAM".parse().map_err(usage)?))
}

fn sku(item: usize) -> Result<Sku, Error> {
    let name = match item.checked_sub(HOT_ITEMS) {
        None => format!("HOT-{}", item + 1),
        Some(tail) => format!("TAIL-{:03}", tail + 1),
    };
    name.parse().map_err(usage)
}

/// The tax that a gross amount contains, rounded to the nearest minor unit.
fn tax_in(gross: i64) -> i64 {
    (gross * TAX_PERCENT * 2 + 100 + TAX_PERCENT) / (2 * (100 + TAX_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Plan {
        plan(Shape { seconds: 10.0, rate: 100.0, seed: 7 }).unwrap()
    }

    #[test]
    fn the_rush_is_five_times_the_baseline() {
        let plan = small();
        let count = |from: u64, to: u64| {
            let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
            plan.visits.iter().filter(|v| v.due >= from && v.due < to).count() as f64
        };
        let ratio = count(2_500, 7_500) / (count(0, 2_500) + count(7_500, 10_000));
        assert!((4.0..6.0).contains(&ratio), "{ratio}");
        assert_eq!(plan.phase(Duration::from_secs(5)), "rush +400 %");
        assert_eq!(plan.phase(Duration::ZERO), "baseline");
        assert_eq!(plan.phase(Duration::from_secs(99)), "baseline");
    }

    #[test]
    fn hot_items_are_asked_for_more_than_they_are_there_and_others_are_not() {
        let plan = small();
        let demand = demand(&plan.visits);
        for (at, item) in plan.catalogue.iter().enumerate() {
            let asked = demand.get(&at).copied().unwrap_or_default();
            assert_eq!(item.hot, at < HOT_ITEMS);
            assert_eq!(asked > item.units(), item.hot, "{item:?}: {asked} asked for");
        }
    }

    #[test]
    fn every_kind_of_shopper_comes() {
        let plan = small();
        for ending in [Ending::Pays, Ending::PaymentFails, Ending::Abandons] {
            assert!(plan.visits.iter().any(|v| v.ending == ending), "{ending:?}");
        }
        for repeat in [Repeat::ReservationAtOnce, Repeat::ReservationLater, Repeat::Payment] {
            assert!(plan.visits.iter().any(|v| v.repeat == repeat), "{repeat:?}");
        }
        for lines in 1..=3 {
            assert!(plan.visits.iter().any(|v| v.cart.len() == lines), "{lines} lines");
        }
        let mut customers = HashMap::new();
        for visit in &plan.visits {
            *customers.entry(&visit.customer).or_insert(0) += 1;
        }
        assert!(customers.values().any(|visits| *visits > HOT_LIMIT as usize));
    }

    #[test]
    fn the_same_seed_plans_the_same_sale() {
        let orders = |seed| {
            let plan = plan(Shape { seconds: 2.0, rate: 50.0, seed }).unwrap();
            plan.visits.iter().map(|v| (v.due, v.cart.clone())).collect::<Vec<_>>()
        };
        assert_eq!(orders(1), orders(1));
        assert_ne!(orders(1), orders(2));
    }

    #[test]
    fn contained_tax_is_rounded_to_the_nearest() {
        assert_eq!(tax_in(11_900), 1_900);
        assert_eq!(tax_in(490), 78);
        assert_eq!(tax_in(0), 0);
        assert_eq!(tax_in(3), 0);
        assert_eq!(tax_in(4), 1);
    }

    #[test]
    fn impossible_shapes_are_refused() {
        for (seconds, rate) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1e9, 1e9)] {
            assert!(plan(Shape { seconds, rate, seed: 0 }).is_err(), "{seconds} {rate}");
        }
    }
}
