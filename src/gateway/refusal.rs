//! The engine's refusals as frames.

use smallvec::SmallVec;

use crate::{
    engine::Refusal,
    model::view::{LimitedLine, ShortLine},
    protocol::{Code, Refused, RefusedLine, Wrong},
};

/// A text of a caller's that is repeated to him is cut to so many bytes.
const TEXT_BYTES_MAX: usize = 300;

type Lines<'a> = SmallVec<[RefusedLine<'a>; 4]>;

fn short(line: &ShortLine) -> RefusedLine<'_> {
    let location = line.location.as_ref().map_or("", |l| l.as_str());
    let (requested, available) = (line.requested, line.available);
    RefusedLine { requested, available, taken: 0, sku: line.sku.as_str(), location }
}

fn limited(line: &LimitedLine) -> RefusedLine<'_> {
    RefusedLine {
        requested: line.requested,
        available: line.limit.into(),
        taken: line.taken.into(),
        sku: line.sku.as_str(),
        location: "",
    }
}

/// Appends a refusal as a frame; says its code.
pub(super) fn push(out: &mut Vec<u8>, id: u64, refusal: &Refusal) -> Code {
    if let Refusal::InsufficientStock { lines } = refusal {
        // Nearly every answer of a flash sale: nothing is looked up or written for it.
        let lines: Lines<'_> = lines.iter().map(short).collect();
        let code = Code::INSUFFICIENT_STOCK;
        Refused { lines: &lines, ..Refused::new(code, "") }.push(out, id);
        return code;
    }
    let code = Code::of_word(refusal.code()).unwrap_or(Code::INTERNAL);
    let detail = refusal.to_string();
    let mut refused = Refused::new(code, shortened(&detail));
    let lines: Lines<'_> = match refusal {
        Refusal::PurchaseLimit { lines } => lines.iter().map(limited).collect(),
        _ => Lines::new(),
    };
    refused.lines = &lines;
    match refusal {
        Refusal::Malformed { field, .. } => refused.field = shortened(field),
        Refusal::WrongState { state } | Refusal::BeyondSold { state, .. } => {
            refused.state = *state as u8;
        }
        Refusal::StaleVersion { last } => refused.number = i64::try_from(*last).unwrap_or(i64::MAX),
        Refusal::Shortfall { held, committed } => {
            (refused.number, refused.other) = (*held, *committed);
        }
        _ => {}
    }
    refused.push(out, id);
    code
}

/// Appends the refusal of a field that is wrong; says its code.
pub(super) fn push_wrong(out: &mut Vec<u8>, id: u64, wrong: &Wrong) -> Code {
    let detail = wrong.to_string();
    let refused = Refused::new(Code::MALFORMED, shortened(&detail));
    Refused { field: shortened(&wrong.field), ..refused }.push(out, id);
    Code::MALFORMED
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
