//! Taking stock for a cart: which positions each line is taken at, and the takes themselves, under a
//! guard that gives everything back if the decision does not come to its record.
//!
//! A cart takes in one global order of (SKU, location). A take that would have to wait for another
//! cart that is being decided lets go of all it has first, so that carts never wait for each other
//! in a circle.

use smallvec::SmallVec;

use crate::{
    ledger::{
        limits::{Allowed, Credit, Pending, Who},
        positions::{Position, Positions},
        sync::Backoff,
        word::Taken,
    },
    model::{
        Location, Sku,
        command::ReserveLine,
        event::Line,
        view::{LimitedLine, ShortLine},
    },
};

use super::{Refusal, core::Tables};

/// Units of one SKU, at one location or wherever they are.
#[derive(Debug)]
pub(super) struct Want<'a> {
    sku: &'a Sku,
    sku_number: u32,
    /// The position, where the line names its location.
    fixed: Option<u32>,
    location: Option<&'a Location>,
    split: bool,
    quantity: u32,
}

/// A cart, resolved to SKUs and positions, summed, in the global order.
#[derive(Debug)]
pub(super) struct Cart<'a> {
    wants: SmallVec<[Want<'a>; 1]>,
    /// The most lines it can be taken in.
    pub(super) lines_max: usize,
}

/// The most units that the lines of one SKU and location may sum up to.
const SUM_MAX: u32 = i32::MAX as u32;

impl<'a> Cart<'a> {
    /// Resolves a request's lines. Field names in refusals are those of the request's `lines`.
    pub(super) fn resolve(
        positions: &Positions,
        lines: &'a [ReserveLine],
        lines_max: u32,
    ) -> Result<Self, Refusal> {
        if lines.is_empty() || lines.len() > lines_max as usize {
            let reason = format!("must have 1 to {lines_max} lines");
            return Err(Refusal::malformed("lines", reason));
        }
        let mut wants: SmallVec<[Want<'a>; 1]> = SmallVec::with_capacity(lines.len());
        for line in lines {
            let want = Self::want(positions, line)?;
            let same = wants.iter_mut().find(|w| {
                let alike = want.fixed.is_some() || w.split == want.split;
                w.sku_number == want.sku_number && w.fixed == want.fixed && alike
            });
            match same {
                Some(same) => {
                    same.quantity = same
                        .quantity
                        .checked_add(want.quantity)
                        .filter(|sum| *sum <= SUM_MAX)
                        .ok_or_else(|| Refusal::malformed("lines", "sum up to too many units"))?;
                }
                None => wants.push(want),
            }
        }
        // Lines with a location first, so that a line without one takes what they leave; then the
        // one that may not be split, since the one that may goes anywhere. In this order lines of
        // one SKU can be taken one after the other if they can be taken at all.
        wants.sort_by_key(|w| (w.sku_number, w.fixed.is_none(), w.fixed, w.split));
        let lines_max = wants
            .iter()
            .map(|w| if w.fixed.is_some() { 1 } else { positions.of_sku(w.sku_number).count() })
            .sum();
        Ok(Self { wants, lines_max })
    }

    fn want(positions: &Positions, line: &'a ReserveLine) -> Result<Want<'a>, Refusal> {
        let unknown = |location: Option<&Location>| Refusal::UnknownSku {
            sku: line.sku.clone(),
            location: location.cloned(),
        };
        let sku_number = positions.sku_number(&line.sku).ok_or_else(|| unknown(None))?;
        let fixed = match &line.location {
            Some(location) => {
                Some(positions.at(sku_number, location).ok_or_else(|| unknown(Some(location)))?.0)
            }
            None => None,
        };
        Ok(Want {
            sku: &line.sku,
            sku_number,
            fixed,
            location: line.location.as_ref(),
            split: line.split,
            quantity: line.quantity.get(),
        })
    }

    /// A cart of exactly these lines, to take again what was given back.
    pub(super) fn exactly(positions: &'a Positions, lines: &[Line]) -> Self {
        let wants = lines.iter().filter_map(|line| {
            let position = positions.get(line.position)?;
            Some(Want {
                sku: positions.sku(position.sku_number())?,
                sku_number: position.sku_number(),
                fixed: Some(line.position),
                location: positions.location(position),
                split: true,
                quantity: line.quantity,
            })
        });
        Self { wants: wants.collect(), lines_max: lines.len() }
    }

    /// The lines that can't be taken whatever becomes of carts that are being decided; empty if each
    /// could be.
    pub(super) fn short(&self, positions: &Positions) -> Vec<ShortLine> {
        // One line, as nearly always when all is sold out: no list grows for it.
        if let [want] = &*self.wants {
            return want.short(positions).map_or_else(Vec::new, |line| vec![line]);
        }
        self.by_sku().flat_map(|wants| short_together(positions, wants)).collect()
    }

    /// Whether some line can't be taken; allocates nothing where each SKU is in one line.
    pub(super) fn is_short(&self, positions: &Positions) -> bool {
        self.by_sku().any(|wants| match wants {
            [want] => want.is_short(positions),
            _ => !short_together(positions, wants).is_empty(),
        })
    }

    fn by_sku(&self) -> impl Iterator<Item = &[Want<'a>]> {
        self.wants.chunk_by(|a, b| a.sku_number == b.sku_number)
    }

    /// Sets the cart against what a reservation holds: what it keeps, what it gives back, and what of
    /// the cart is still to be taken. A line that may not be split keeps all of it or nothing.
    pub(super) fn against(
        mut self,
        positions: &Positions,
        held: &[Line],
    ) -> (Vec<Line>, Vec<Line>, Self) {
        let mut given = held.to_vec();
        for want in &mut self.wants {
            let whole = !want.split && want.fixed.is_none();
            for line in &mut given {
                let fits = want.may_be_at(positions, line.position);
                if !fits || (whole && line.quantity < want.quantity) {
                    continue;
                }
                let kept = want.quantity.min(line.quantity);
                line.quantity -= kept;
                want.quantity -= kept;
            }
        }
        self.wants.retain(|want| want.quantity > 0);
        let kept = less(held, &given);
        given.retain(|line| line.quantity > 0);
        (kept, given, self)
    }

    /// Begins to fetch what limits will touch; see [`crate::ledger::keys::Keys::warm`].
    pub(super) fn warm_limits(&self, tables: &Tables, customer: u64) {
        for want in self.wants.iter().filter(|w| tables.positions.limit(w.sku_number).is_some()) {
            tables.limits.warm(Who { customer, sku_number: want.sku_number });
        }
    }

    /// Units of each SKU that has a limit per customer.
    fn limited(&self, positions: &Positions) -> SmallVec<[(&'a Sku, u32, u32, u32); 1]> {
        let mut limited: SmallVec<[(&Sku, u32, u32, u32); 1]> = SmallVec::new();
        for want in &self.wants {
            let Some(limit) = positions.limit(want.sku_number) else { continue };
            match limited.iter_mut().find(|(_, number, ..)| *number == want.sku_number) {
                Some((.., quantity)) => *quantity = quantity.saturating_add(want.quantity),
                None => limited.push((want.sku, want.sku_number, limit, want.quantity)),
            }
        }
        limited
    }
}

/// The lines of one SKU that can't be taken after those before them.
fn short_together(positions: &Positions, wants: &[Want<'_>]) -> Vec<ShortLine> {
    let [first, _, ..] = wants else {
        return wants.iter().filter_map(|want| want.short(positions)).collect();
    };
    let of_sku = positions.of_sku(first.sku_number);
    let mut left: Vec<Left> = of_sku.map(|(number, p)| Left::of(number, p)).collect();
    wants.iter().filter_map(|want| want.short_of(&mut left)).collect()
}

/// What lines before leave of a position: units available, and these with the pending ones.
struct Left {
    position: u32,
    available: i64,
    with_pending: i64,
}

impl Left {
    fn of(number: u32, position: &Position) -> Self {
        let (available, pending) = position.word().load();
        let available = i64::from(available);
        Self { position: number, available, with_pending: available + i64::from(pending) }
    }

    fn take(&mut self, units: i64) {
        self.with_pending -= units;
        self.available = (self.available - units).max(0).min(self.available);
    }
}

impl Want<'_> {
    /// Takes the line out of what is left, as [`Takes::want`] does; or says that it is short.
    fn short_of(&self, left: &mut [Left]) -> Option<ShortLine> {
        let mut wanted = i64::from(self.quantity);
        let fits = |l: &Left| self.fixed.is_none_or(|fixed| fixed == l.position);
        if let Some(whole) = left.iter_mut().find(|l| fits(l) && l.with_pending >= wanted) {
            whole.take(wanted);
            return None;
        }
        let each = left.iter().filter(|l| fits(l)).map(|l| (l.available, l.with_pending));
        let (available, with_pending) = if self.fixed.is_none() && self.split {
            each.fold((0, 0), |sum, one| (sum.0 + one.0.max(0), sum.1 + one.1.max(0)))
        } else {
            each.max().unwrap_or_default()
        };
        if with_pending < wanted {
            return Some(self.short_line(available));
        }
        for l in left {
            let part = wanted.min(l.with_pending.max(0));
            l.take(part);
            wanted -= part;
        }
        None
    }

    fn short_line(&self, available: i64) -> ShortLine {
        ShortLine {
            sku: self.sku.clone(),
            location: self.location.cloned(),
            requested: u64::from(self.quantity),
            available,
        }
    }

    fn may_be_at(&self, positions: &Positions, position: u32) -> bool {
        match self.fixed {
            Some(fixed) => fixed == position,
            None => positions.get(position).is_some_and(|p| p.sku_number() == self.sku_number),
        }
    }

    /// Units that could be taken: `(available, available + pending)`, at the best single location
    /// where the line may not be split.
    fn reach(&self, positions: &Positions) -> (i64, i64) {
        let of = |p: &Position| {
            let (available, pending) = p.word().load();
            (i64::from(available), i64::from(available) + i64::from(pending))
        };
        if let Some(fixed) = self.fixed {
            return positions.get(fixed).map_or((0, 0), of);
        }
        let each = positions.of_sku(self.sku_number).map(|(_, p)| of(p));
        if self.split {
            // A location in shortfall takes nothing from what others have.
            each.fold((0, 0), |sum, one| (sum.0 + one.0.max(0), sum.1 + one.1.max(0)))
        } else {
            each.fold((0, 0), |best, one| (best.0.max(one.0), best.1.max(one.1)))
        }
    }

    fn is_short(&self, positions: &Positions) -> bool {
        self.reach(positions).1 < i64::from(self.quantity)
    }

    fn short(&self, positions: &Positions) -> Option<ShortLine> {
        let (available, with_pending) = self.reach(positions);
        (with_pending < i64::from(self.quantity)).then(|| self.short_line(available))
    }
}

/// What of `all` is not in `part`, which has the same positions in the same order.
pub(super) fn less(all: &[Line], part: &[Line]) -> Vec<Line> {
    all.iter()
        .zip(part)
        .map(|(all, part)| Line { quantity: all.quantity - part.quantity, ..*all })
        .filter(|line| line.quantity > 0)
        .collect()
}

/// Who takes, and when: what limits need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker<'a> {
    /// Keyed hash of the customer; 0 without one.
    pub(super) customer: u64,
    /// The decision's time.
    pub(super) now_ms: u64,
    /// Where a period that these units begin begins: the reservation's record can't come before it.
    pub(super) tail: u64,
    /// Whether nothing after the takes can refuse the request.
    pub(super) decided: bool,
    /// What the same record gives back, and the record that granted it: against a limit only what
    /// comes on top of it counts.
    pub(super) instead_of: (&'a [Line], u64),
}

impl Taker<'_> {
    fn credit(&self, positions: &Positions, sku_number: u32) -> Credit {
        let (given, granted) = self.instead_of;
        let of_sku = |l: &&Line| {
            l.limited && positions.get(l.position).is_some_and(|p| p.sku_number() == sku_number)
        };
        Credit { units: given.iter().filter(of_sku).map(|l| l.quantity).sum(), granted }
    }
}

/// Lines, of which there are mostly few: no allocation for those.
pub(super) type FewLines = SmallVec<[Line; 2]>;

/// What a cart has taken, pending. Dropped, it gives everything back.
#[derive(Debug)]
pub(super) struct Takes<'a> {
    tables: &'a Tables,
    /// What was taken where.
    pub(super) lines: FewLines,
    limited: SmallVec<[Pending; 1]>,
    /// The last take, for good: position and units. Nothing after it can fail, so nobody has to be
    /// told that its units may come back.
    last: Option<(u32, u32)>,
}

impl<'a> Takes<'a> {
    /// Takes a whole cart, or nothing.
    pub(super) fn take(
        tables: &'a Tables,
        cart: &Cart<'_>,
        taker: Taker<'_>,
        wait_ms_max: u64,
    ) -> Result<Self, Refusal> {
        let mut backoff = Backoff::default();
        let mut began = None;
        loop {
            let mut takes =
                Self { tables, lines: FewLines::new(), limited: SmallVec::new(), last: None };
            if takes.limits(cart, taker)? {
                if takes.cart(cart, taker.decided) {
                    return takes.within(cart.lines_max);
                }
                // Whether it is short or has to wait is seen once what was taken is back: a line may
                // have met the pending units of the lines before it.
                drop(takes);
                let lines = cart.short(&tables.positions);
                if !lines.is_empty() {
                    return Err(Refusal::InsufficientStock { lines });
                }
            } else {
                drop(takes);
            }
            let began = began.get_or_insert_with(std::time::Instant::now);
            if began.elapsed().as_millis() as u64 > wait_ms_max {
                return Err(Refusal::Overloaded {
                    what: "other carts are being decided; try again",
                });
            }
            backoff.wait();
        }
    }

    /// A location that was defined meanwhile may make more lines than there is room for.
    fn within(self, lines_max: usize) -> Result<Self, Refusal> {
        if self.lines.len() > lines_max {
            return Err(Refusal::Overloaded { what: "a location was just added; try again" });
        }
        Ok(self)
    }

    /// Takes what limits allow; false if that can't be told yet.
    fn limits(&mut self, cart: &Cart<'_>, taker: Taker<'_>) -> Result<bool, Refusal> {
        let mut beyond = Vec::new();
        for (sku, sku_number, limit, quantity) in cart.limited(&self.tables.positions) {
            if taker.customer == 0 {
                return Err(Refusal::malformed(
                    "customer",
                    "is required: a SKU has a limit per customer",
                ));
            }
            let who = Who { customer: taker.customer, sku_number };
            let credit = taker.credit(&self.tables.positions, sku_number);
            let limits = &self.tables.limits;
            match limits.take_instead(who, quantity, limit, taker.now_ms, taker.tail, credit) {
                Allowed::Yes(pending) => self.limited.push(pending),
                Allowed::Wait => return Ok(false),
                Allowed::Full => {
                    return Err(Refusal::Overloaded {
                        what: "the table of customers' limits is full",
                    });
                }
                Allowed::Beyond { taken } => beyond.push(LimitedLine {
                    sku: sku.clone(),
                    requested: u64::from(quantity),
                    limit,
                    taken,
                }),
            }
        }
        if beyond.is_empty() { Ok(true) } else { Err(Refusal::PurchaseLimit { lines: beyond }) }
    }

    /// Takes every line; false if one can't be taken now, or never.
    fn cart(&mut self, cart: &Cart<'_>, decided: bool) -> bool {
        let count = cart.wants.len();
        cart.wants.iter().enumerate().all(|(at, want)| {
            let last = decided && at + 1 == count && self.lines.len() < cart.lines_max;
            self.want(want, last)
        })
    }

    fn want(&mut self, want: &Want<'_>, last: bool) -> bool {
        let tables = self.tables;
        if let Some(fixed) = want.fixed {
            let position = tables.positions.get(fixed);
            return position.is_some_and(|position| self.at(fixed, position, want.quantity, last));
        }
        let mut of_sku = tables.positions.of_sku(want.sku_number);
        if of_sku.any(|(number, position)| self.at(number, position, want.quantity, last)) {
            return true;
        }
        if !want.split {
            return false;
        }
        let mut left = want.quantity;
        for (number, position) in tables.positions.of_sku(want.sku_number) {
            let (available, _) = position.word().load();
            let part = left.min(available.max(0) as u32);
            if part > 0 && self.at(number, position, part, false) {
                left -= part;
            }
            if left == 0 {
                return true;
            }
        }
        false
    }

    fn at(&mut self, number: u32, position: &Position, quantity: u32, last: bool) -> bool {
        let word = position.word();
        let taken = if last { word.take(quantity) } else { word.take_pending(quantity) };
        if taken != Taken::Yes {
            return false;
        }
        self.took(number, position, quantity);
        self.last = last.then_some((number, quantity));
        true
    }

    /// Units of a line that are pending.
    fn pending(&self, line: &Line) -> u32 {
        let last = self.last.filter(|(position, _)| *position == line.position);
        line.quantity - last.map_or(0, |(_, units)| units)
    }

    fn took(&mut self, number: u32, position: &Position, quantity: u32) {
        let sku_number = position.sku_number();
        let limited = self.limited.iter().any(|l| l.who.sku_number == sku_number);
        match self.lines.iter_mut().find(|l| l.position == number) {
            Some(line) => line.quantity += quantity,
            None => self.lines.push(Line { position: number, quantity, limited }),
        }
    }

    /// The record stands: what was taken is no longer pending.
    pub(super) fn settle(mut self) -> FewLines {
        for pending in self.limited.drain(..) {
            self.tables.limits.settle(pending);
        }
        for line in &self.lines {
            let pending = self.pending(line);
            if pending > 0
                && let Some(position) = self.tables.positions.get(line.position)
            {
                position.word().settle(pending);
            }
        }
        std::mem::take(&mut self.lines)
    }
}

impl Drop for Takes<'_> {
    fn drop(&mut self) {
        for pending in self.limited.drain(..) {
            self.tables.limits.undo(pending);
        }
        for line in &self.lines {
            let Some(position) = self.tables.positions.get(line.position) else { continue };
            let pending = self.pending(line);
            position.word().undo(pending);
            position.word().give(line.quantity - pending);
        }
    }
}
