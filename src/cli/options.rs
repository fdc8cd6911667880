//! From the configuration to the options of the parts. A test holds the defaults of both together,
//! so that the documentation of the one is true for the other.

use holdfast::{api, config, config::Config, engine, wal};

const DAY_MS: u64 = 86_400_000;

/// The options of the engine and its log.
pub fn engine(config: &Config) -> engine::Options {
    let config::Engine {
        positions_max,
        reservations_max,
        reservations_prepared,
        keys_max,
        orders_max,
        customer_limits_max,
        parked_events_max,
        lines_max,
        ttl_default_ms,
        ttl_max_ms,
        retention_ms,
        limit_period_ms,
        overdue_grace_ms,
        decision_wait_ms_max,
        sourcing,
        checkpoint_bytes,
    } = config.engine.clone();
    engine::Options {
        wal: log(&config.log),
        positions_max,
        reservations_max,
        reservations_prepared,
        keys_max,
        orders_max,
        customer_limits_max,
        parked_events_max,
        lines_max,
        ttl_default_ms,
        ttl_max_ms,
        retention_ms,
        limit_period_ms,
        overdue_grace_ms,
        decision_wait_ms_max,
        sourcing,
        checkpoint_bytes: checkpoint_bytes.bytes(),
    }
}

/// The options of the log.
fn log(log: &config::Log) -> wal::Options {
    wal::Options {
        segment_bytes: log.segment_bytes.bytes(),
        budget_bytes: log.budget_bytes.bytes(),
        soft_mark_percent: log.soft_mark_percent,
        order_reserve_bytes: log.order_reserve_bytes.bytes(),
        delivery_reserve_bytes: log.delivery_reserve_bytes.bytes(),
        ready_segments: log.ready_segments,
        // The configuration's check keeps it within 32 bits.
        record_bytes_max: u32::try_from(log.record_bytes_max.bytes()).unwrap_or(u32::MAX),
        unsynced_bytes_max: log.unsynced_bytes_max.bytes(),
        ack: match log.ack {
            config::Ack::Disk => wal::Ack::Disk,
            config::Ack::Memory => wal::Ack::Memory,
        },
        group_us: log.group_us,
        idle_mark_ms: log.idle_mark_ms,
        room_wait_ms_max: log.room_wait_ms_max,
        hole_ms_max: log.hole_ms_max,
        archive: log.archive.then(|| wal::archive::ArchiveOptions {
            dir: log.archive_dir.clone(),
            bytes_max: log.archive_bytes_max.bytes(),
            horizon_ms: u64::from(log.archive_horizon_days) * DAY_MS,
        }),
    }
}

/// The options of the HTTP server.
pub fn api(server: &config::Server) -> api::Options {
    api::Options {
        listen: server.listen,
        body_bytes_max: bytes(server.body_bytes_max),
        import_bytes_max: server.import_bytes_max.bytes(),
        import_line_bytes_max: bytes(server.import_line_bytes_max),
        import_refused_max: server.import_refused_max as usize,
        import_timeout_ms: server.import_timeout_ms,
        headers_max: server.headers_max as usize,
        header_bytes_max: bytes(server.header_bytes_max),
        header_read_timeout_ms: server.header_read_timeout_ms,
        request_timeout_ms: server.request_timeout_ms,
        keep_alive: server.keep_alive,
        connections_max: server.connections_max as usize,
        streams_max: server.streams_max,
        in_flight_max: server.in_flight_max as usize,
        shutdown_grace_ms: server.shutdown_grace_ms,
        batch_max: server.batch_max as usize,
        skus_max: server.skus_max as usize,
        page_max: server.page_max as usize,
        live_max: server.live_max as usize,
    }
}

/// The options of TLS.
pub fn tls(tls: &config::TlsConfig) -> api::TlsOptions {
    api::TlsOptions {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
        handshake_timeout_ms: tls.handshake_timeout_ms,
        handshakes_max: tls.handshakes_max as usize,
    }
}

fn bytes(size: config::ByteSize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_defaults_of_the_parts() {
        let config = Config::default();
        assert_eq!(api(&config.server), api::Options::default());
        let (ours, theirs) = (engine(&config), engine::Options::default());
        assert_eq!(format!("{ours:#?}"), format!("{theirs:#?}"));
    }
}
