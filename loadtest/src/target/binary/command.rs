//! A plan's requests as the binary protocol's client takes them. Carts, which are nearly all of them, are
//! written into one command that is used again; what has money is read from the body that goes over
//! HTTP, so that both ask for the same.

use std::sync::Arc;

use holdfast::{
    model::{
        IdempotencyKey, Quantity, ReservationId,
        command::{Commit, PlaceOrder, Release, Reserve, ReserveLine},
    },
    protocol,
};

use crate::{
    plan::{Plan, Step, Visit, render},
    target::Request,
};

/// Makes commands of a plan's requests.
pub(super) struct Commands {
    plan: Arc<Plan>,
    reserve: Reserve,
    text: Vec<u8>,
}

impl Commands {
    pub fn new(plan: Arc<Plan>) -> Self {
        let ttl_ms = Some(plan.ttl() / 1_000_000);
        let reserve = Reserve { lines: Vec::new(), customer: None, order_id: None, ttl_ms };
        Self { plan, reserve, text: Vec::new() }
    }

    /// Does something with the command of a request; `None` if it is none that could be sent.
    pub fn with<T>(
        &mut self,
        request: &Request<'_>,
        then: impl FnOnce(&protocol::Request<'_>) -> T,
    ) -> Option<T> {
        self.text.clear();
        self.plan.write_key(request.visit.shopper, request.step, &mut self.text);
        let key: IdempotencyKey = std::str::from_utf8(&self.text).ok()?.parse().ok()?;
        let id = || -> Option<ReservationId> {
            std::str::from_utf8(request.reservation?.as_bytes()).ok()?.parse().ok()
        };
        Some(match request.step {
            Step::Reserve => {
                self.cart(request.visit)?;
                then(&protocol::Request::Reserve(&key, &self.reserve))
            }
            Step::Order => {
                let order: PlaceOrder = self.body(request)?;
                then(&protocol::Request::Order(&key, &order))
            }
            Step::Commit => {
                let commit: Commit = self.body(request)?;
                then(&protocol::Request::Commit(&key, id()?, &commit))
            }
            Step::Release => then(&protocol::Request::Release(&key, id()?, &Release::default())),
        })
    }

    fn body<T: serde::de::DeserializeOwned>(&mut self, request: &Request<'_>) -> Option<T> {
        self.text.clear();
        self.plan.body(request.visit, request.step, &mut self.text);
        serde_json::from_slice(&self.text).ok()
    }

    fn cart(&mut self, visit: &Visit) -> Option<()> {
        self.reserve.lines.clear();
        for line in &visit.lines {
            self.text.clear();
            render::sku(&mut self.text, line.sku);
            let sku = std::str::from_utf8(&self.text).ok()?.parse().ok()?;
            let quantity = Quantity::new(line.quantity).ok()?;
            self.reserve.lines.push(ReserveLine { sku, quantity, location: None, split: true });
        }
        self.text.clear();
        render::customer(&mut self.text, visit.customer);
        self.reserve.customer = Some(std::str::from_utf8(&self.text).ok()?.parse().ok()?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_cart_is_the_one_that_goes_over_http() {
        let text =
            "[[stages]]\nshape = \"steady\"\nrate = 50\nfor_s = 1\n[shoppers]\nlines = [1, 1, 1]\n";
        let scenario = Scenario::parse("test", text, Path::new(".")).unwrap();
        let plan = Arc::new(Plan::new(&scenario, 1.0, "t").unwrap());
        let mut commands = Commands::new(plan.clone());
        for shopper in 0..plan.shoppers() {
            let visit = plan.visit(shopper);
            let mut body = Vec::new();
            plan.body(&visit, Step::Reserve, &mut body);
            let over_http: Reserve = serde_json::from_slice(&body).unwrap();
            let request = Request { visit: &visit, step: Step::Reserve, reservation: None };
            let same = commands.with(&request, |command| match command {
                protocol::Request::Reserve(key, reserve) => {
                    key.as_str() == plan.key(shopper, Step::Reserve) && **reserve == over_http
                }
                _ => false,
            });
            assert_eq!(same, Some(true), "{over_http:?}");
        }
    }
}
