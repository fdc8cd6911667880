//! One shopper: reserves his cart, then pays, fails to, or leaves; now and then his client sends a
//! request twice and must get the same answer.

use holdfast::model::{
    Amount, Quantity, ReservationId,
    command::{Commit, PriceLine, Prices, Priority, Release, Reserve, ReserveLine},
    view::{ReservationState, ReservationView},
};
use reqwest::StatusCode;
use serde::Deserialize;

use super::{
    shop::{Reply, Shop},
    tally::Operation,
    visit::{CartLine, Ending, Plan, Repeat, Visit},
};

/// Lives through one visit.
pub async fn shop(shop: &Shop, plan: &Plan, visit: &Visit) {
    let shopper = Shopper { shop, plan, visit };
    if let Err(complaint) = shopper.live().await {
        shop.tally.complain(format!("{}: {complaint}", visit.order_id));
    }
}

/// The part of a refusal that is needed.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    code: String,
    #[serde(default)]
    lines: Vec<Short>,
}

#[derive(Debug, Deserialize)]
struct Short {
    sku: String,
    /// Absent where a limit per customer was the reason.
    available: Option<i64>,
}

struct Shopper<'a> {
    shop: &'a Shop,
    plan: &'a Plan,
    visit: &'a Visit,
}

impl Shopper<'_> {
    async fn live(&self) -> Result<(), String> {
        let Some(id) = self.reserve().await? else { return Ok(()) };
        self.shop.tally.granted.add(1);
        tokio::time::sleep(self.visit.pause).await;
        if self.visit.repeat == Repeat::ReservationLater {
            self.reserve_again(id).await?;
        }
        match self.visit.ending {
            Ending::Pays => self.pay(id).await,
            Ending::PaymentFails => self.release(id).await,
            Ending::Abandons => {
                self.shop.tally.abandoned.add(1);
                Ok(())
            }
        }
    }

    /// The reservation's id, unless it was refused.
    async fn reserve(&self) -> Result<Option<ReservationId>, String> {
        if self.visit.repeat != Repeat::ReservationAtOnce {
            return self.granted(&self.ask_reserve().await?, true);
        }
        self.shop.tally.repeats.add(1);
        let (first, second) = tokio::join!(self.ask_reserve(), self.ask_reserve());
        let first = self.granted(&first?, true)?;
        // Refusals are not remembered: the twin of a refused request may be granted. It counts as
        // one request though.
        let second = self.granted(&second?, false)?;
        match (first, second) {
            (Some(a), Some(b)) if a != b => {
                Err(format!("one key was granted two reservations, {a} and {b}"))
            }
            (first, second) => Ok(first.or(second)),
        }
    }

    async fn ask_reserve(&self) -> Result<Reply, String> {
        let key = format!("{}-reserve", self.visit.order_id);
        let body = self.reservation()?;
        self.shop.ask(Operation::Reserve, "/v1/reservations", &key, &body).await
    }

    fn granted(&self, reply: &Reply, count_refusal: bool) -> Result<Option<ReservationId>, String> {
        match reply.status {
            StatusCode::CREATED => Ok(Some(reply.read::<ReservationView>()?.id)),
            StatusCode::CONFLICT => {
                if count_refusal {
                    self.refused(reply);
                }
                Ok(None)
            }
            status => Err(format!("a reservation was answered with {status} {}", reply.code())),
        }
    }

    /// Counts a refusal, and the items of which it says that nothing is left.
    fn refused(&self, reply: &Reply) {
        let refusal: Refusal = reply.read().unwrap_or_default();
        for short in refusal.lines.iter().filter(|line| line.available == Some(0)) {
            let named = |line: &&CartLine| self.plan.catalogue[line.item].sku.as_str() == short.sku;
            // Of an item that lies in two places, one place may be empty and the other not.
            if let Some(line) = self.visit.cart.iter().find(named)
                && line.location.is_none()
            {
                self.shop.tally.found_gone(line.item);
            }
        }
        self.shop.tally.refuse(&refusal.code);
    }

    async fn reserve_again(&self, id: ReservationId) -> Result<(), String> {
        self.shop.tally.repeats.add(1);
        let reply = self.ask_reserve().await?;
        match self.granted(&reply, false)? {
            Some(again) if again == id && reply.replayed => Ok(()),
            Some(again) if again == id => Err("a repeat does not say that it is one".to_owned()),
            Some(again) => Err(format!("the repeat of {id} was granted {again}")),
            None => Err(format!("the repeat of {id}, which was granted, was refused")),
        }
    }

    async fn pay(&self, id: ReservationId) -> Result<(), String> {
        let order = self.commit()?;
        let path = format!("/v1/reservations/{id}/commit");
        let key = format!("{}-pay", self.visit.order_id);
        let reply = self.shop.ask(Operation::Commit, &path, &key, &order).await?;
        if !self.settled(&reply, "commit", ReservationState::Committed, id)? {
            return Ok(());
        }
        let units = self.visit.cart.iter().map(|line| (line.item, line.quantity));
        self.shop.tally.sell(self.visit.total(), units);
        if self.visit.repeat == Repeat::Payment {
            self.shop.tally.repeats.add(1);
            let again = self.shop.ask(Operation::Commit, &path, &key, &order).await?;
            if again.status != reply.status || again.body != reply.body || !again.replayed {
                return Err(format!("the repeat of a commit differs: {again:?}, first {reply:?}"));
            }
        }
        Ok(())
    }

    async fn release(&self, id: ReservationId) -> Result<(), String> {
        let path = format!("/v1/reservations/{id}/release");
        let key = format!("{}-release", self.visit.order_id);
        let reply = self.shop.ask(Operation::Release, &path, &key, &Release::default()).await?;
        if self.settled(&reply, "release", ReservationState::Released, id)? {
            self.shop.tally.released.add(1);
        }
        Ok(())
    }

    /// Whether the reservation is now in the state hoped for. That it had expired is bad luck; all
    /// else is a complaint.
    fn settled(
        &self,
        reply: &Reply,
        what: &str,
        state: ReservationState,
        id: ReservationId,
    ) -> Result<bool, String> {
        if reply.status == StatusCode::CONFLICT && reply.code() == "wrong_state" {
            self.shop.tally.too_late.add(1);
            return Ok(false);
        }
        if reply.status != StatusCode::OK {
            return Err(format!("a {what} was answered with {} {}", reply.status, reply.code()));
        }
        let view: ReservationView = reply.read()?;
        if (view.id, view.state) != (id, state) {
            return Err(format!("a {what} of {id} was answered with {view:?}"));
        }
        Ok(true)
    }

    fn reservation(&self) -> Result<Reserve, String> {
        let lines = self.visit.cart.iter().map(|line| {
            Ok(ReserveLine {
                sku: self.plan.catalogue[line.item].sku.clone(),
                quantity: Quantity::new(line.quantity).map_err(|e| e.to_string())?,
                location: line.location.clone(),
                split: true,
            })
        });
        Ok(Reserve {
            lines: lines.collect::<Result<_, String>>()?,
            customer: Some(self.visit.customer.clone()),
            order_id: None,
            ttl_ms: self.visit.ttl_ms,
        })
    }

    fn commit(&self) -> Result<Commit, String> {
        let lines = self.visit.cart.iter().map(|line| self.price_line(line));
        Ok(Commit {
            order_id: Some(self.visit.order_id.clone()),
            currency: self.plan.currency,
            prices: Prices::Gross,
            lines: lines.collect::<Result<_, String>>()?,
            shipping: amount(self.visit.shipping)?,
            shipping_tax: amount(self.visit.shipping_tax)?,
            priority: Priority::Standard,
            promised_ship_at: None,
            revive: false,
        })
    }

    fn price_line(&self, line: &CartLine) -> Result<PriceLine, String> {
        Ok(PriceLine {
            sku: self.plan.catalogue[line.item].sku.clone(),
            unit_price: amount(line.unit_price)?,
            tax_code: self.plan.tax_code.clone(),
            tax: amount(line.tax)?,
            discount: amount(line.discount)?,
            unit_cost: None,
        })
    }
}

fn amount(minor: i64) -> Result<Amount, String> {
    Amount::new(minor).map_err(|e| e.to_string())
}
