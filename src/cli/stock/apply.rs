//! Applies the rows: over HTTP in chunks, or in a data directory that no server has open.

use std::{collections::VecDeque, io::Write, path::Path};

use holdfast::{
    config::Overrides,
    engine::{Engine, Refusal},
    model::command::ImportStock,
};
use serde::Deserialize;

use super::{
    super::{
        Error, Source,
        ask::{Server, read},
        options,
    },
    Refused, Tally,
    rows::Rows,
};

/// Rows of one request.
const CHUNK_ROWS_MAX: usize = 1_000;
/// Decisions whose durability is waited for together.
const PENDING_MAX: usize = 4_096;

/// What the server says of a chunk.
#[derive(Debug, Deserialize)]
struct Imported {
    applied: u64,
    refused: Vec<ImportRefusal>,
}

#[derive(Debug, Deserialize)]
struct ImportRefusal {
    line: u64,
    code: String,
    detail: String,
}

/// Sends the rows to a running server.
pub fn over_http<W: Write>(
    mut rows: Rows,
    server: &Server,
    tally: &mut Tally<W>,
) -> Result<(), Error> {
    loop {
        let chunk = next_chunk(&mut rows, tally)?;
        if chunk.is_empty() {
            return Ok(());
        }
        let said = server.send_lines(&["v1", "stock", "import"], lines_of(&chunk))?;
        let imported: Imported = read(said)?;
        tally.applied += imported.applied;
        for refused in imported.refused {
            // The server counts the lines of the chunk; the file's number is the caller's.
            let at = usize::try_from(refused.line).unwrap_or(usize::MAX).wrapping_sub(1);
            let line = chunk.get(at).map_or(refused.line, |(line, _)| *line);
            tally.refuse(&Refused { line, code: refused.code, detail: refused.detail })?;
        }
    }
}

/// The next rows that can be sent; wrong ones are refused on the way.
fn next_chunk<W: Write>(
    rows: &mut Rows,
    tally: &mut Tally<W>,
) -> Result<Vec<(u64, ImportStock)>, Error> {
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK_ROWS_MAX {
        let Some(row) = rows.next_row()? else { break };
        match row.parsed {
            Ok(stock) => chunk.push((row.line, stock)),
            Err(reason) => tally.refuse(&malformed(row.line, reason))?,
        }
    }
    Ok(chunk)
}

fn malformed(line: u64, detail: String) -> Refused {
    Refused { line, code: "malformed".to_owned(), detail }
}

fn lines_of(chunk: &[(u64, ImportStock)]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (_, stock) in chunk {
        // Writing such a plain structure into memory can't fail.
        serde_json::to_writer(&mut lines, stock).unwrap_or_default();
        lines.push(b'\n');
    }
    lines
}

/// Sets the rows in a data directory.
pub fn offline<W: Write>(
    mut rows: Rows,
    data: &Path,
    source: &Source,
    tally: &mut Tally<W>,
) -> Result<(), Error> {
    let overrides = Overrides { data: Some(data.to_owned()), listen: None };
    let config = source.load(&overrides)?;
    let failed = |source| Error::Engine { path: data.to_owned(), source };
    let engine = Engine::open(data, options::engine(&config)).map_err(failed)?;
    let mut pending = VecDeque::new();
    while let Some(row) = rows.next_row()? {
        let (sku, location, set) = match row.parsed {
            Ok(stock) => stock.into_parts(),
            Err(reason) => {
                tally.refuse(&malformed(row.line, reason))?;
                continue;
            }
        };
        pending.push_back((row.line, engine.set_stock(&sku, &location, &set)));
        if pending.len() == PENDING_MAX {
            settle(&engine, pending.pop_front(), tally)?;
        }
    }
    while !pending.is_empty() {
        settle(&engine, pending.pop_front(), tally)?;
    }
    engine.close().map_err(failed)
}

type Pending = (u64, holdfast::engine::Decision<holdfast::model::view::PositionView>);

fn settle<W: Write>(
    engine: &Engine,
    pending: Option<Pending>,
    tally: &mut Tally<W>,
) -> Result<(), Error> {
    let Some((line, decision)) = pending else { return Ok(()) };
    match engine.settle_blocking(decision) {
        Ok(_) => tally.applied += 1,
        Err(refusal) => tally.refuse(&refused(line, &refusal))?,
    }
    Ok(())
}

fn refused(line: u64, refusal: &Refusal) -> Refused {
    Refused { line, code: refusal.code().to_owned(), detail: refusal.to_string() }
}
