//! Dials one party that may be at any of several addresses.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use warren_net::{ConnectError, Connection, Endpoint, Expect, Protocol};

/// Head start of each address over the next one (RFC 8305 §5, Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Tries the addresses in their order, each a little after the one before, until one answers with
/// the right key; the other attempts are dropped.
///
/// # Errors
///
/// What the most telling attempt met: a wrong key before a refusal before silence.
///
/// # Cancel safety
///
/// May be dropped; all attempts end.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    addrs: &[SocketAddr],
    protocol: Protocol,
    expect: Expect,
) -> Result<Connection, ConnectError> {
    let mut waiting = addrs.iter().copied();
    let mut attempts = JoinSet::new();
    let mut worst: Option<ConnectError> = None;
    loop {
        if let Some(addr) = waiting.next() {
            let endpoint = endpoint.clone();
            attempts.spawn(async move { endpoint.connect(addr, protocol, expect).await });
        } else if attempts.is_empty() {
            return Err(worst.unwrap_or_else(|| no_address(addrs)));
        }
        let delay = tokio::time::sleep(ATTEMPT_DELAY);
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => worst = Some(more_telling(worst, error)),
                Err(_) => (),
            },
            () = delay, if waiting.len() > 0 => (),
        }
    }
}

fn more_telling(before: Option<ConnectError>, error: ConnectError) -> ConnectError {
    let weight = |error: &ConnectError| match error {
        ConnectError::KeyMismatch { .. } => 2,
        ConnectError::Refused { .. } => 1,
        ConnectError::TimedOut { .. } => 0,
    };
    match before {
        Some(before) if weight(&before) >= weight(&error) => before,
        _ => error,
    }
}

fn no_address(addrs: &[SocketAddr]) -> ConnectError {
    let addr = addrs.first().copied();
    ConnectError::Refused {
        addr: addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        source: "there is no address to try".into(),
    }
}
