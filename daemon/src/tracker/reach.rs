//! The ways to a tracker, and finding one that works.
//!
//! UDP is what everything else needs, so it comes first; port 443 is what networks leave open that
//! leave hardly anything open. The first way on which the right key is proven is taken.
//!
//! Not here: what is said on it, and when to look for a better one ([`super::session`],
//! [`super::better`]).

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;
use warren_net::{ConnectError, Endpoint, Expect, Link, Protocol, connect_tcp};
use warren_proto::content::{Host, HostPort};
use warren_proto::id::TrackerPin;
use warren_proto::swarm::Transport;

use super::dial::race;
use super::fault::kind_of;

/// Where web servers are: the port that is open where few are.
const WEB_PORT: u16 = 443;

/// Head start of each way over the next one: a handshake with a tracker on the other side of the
/// world, and then some.
const WAY_DELAY: Duration = Duration::from_millis(750);

/// The same where it is known how far the tracker is: in round trips, of which a handshake takes one
/// and a lost packet three more; and at least.
const WAY_RTTS: u32 = 4;
const LEAST_WAY_DELAY: Duration = Duration::from_millis(200);

/// Head start of each address over the next one (RFC 8305 §5, Connection Attempt Delay).
const ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One way to a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// What to use.
    pub(crate) transport: Transport,
    /// Where.
    pub(crate) port: u16,
}

/// Why a tracker is not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    #[error("cannot find the address of {0}")]
    Resolve(HostPort, #[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Connect(#[from] NotReached),
}

/// No way worked.
#[derive(Debug, thiserror::Error)]
#[error("{told}")]
pub(super) struct NotReached {
    /// What the person can do something about.
    #[source]
    pub(super) told: ConnectError,
    /// What the system said of TCP to the port that was named.
    pub(super) by_tcp: Option<io::ErrorKind>,
}

/// What is needed to reach one tracker.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) endpoint: Endpoint,
    pub(super) address: HostPort,
    /// What its key must match, when we know it.
    pub(super) pin: Option<TrackerPin>,
    /// How far it was when it was reached last.
    pub(super) rtt: Option<Duration>,
}

/// All ways to a tracker at `port`, the best first.
pub(super) fn ways(port: u16) -> Vec<Way> {
    let mut ways = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        for port in [port, WEB_PORT] {
            let way = Way { transport, port };
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    ways
}

/// The ways that are better than this one. Between ports there is nothing to choose.
pub(super) fn better_ways(way: Way, port: u16) -> Vec<Way> {
    let is_better = |other: &Way| other.transport < way.transport;
    ways(port).into_iter().filter(is_better).collect()
}

impl Reach {
    /// Tries these ways in this order. Returns also an address of the other IP family, if the tracker's name
    /// has one.
    ///
    /// # Errors
    ///
    /// See [`ReachError`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped; all attempts end.
    pub(super) async fn connect(
        &self,
        ways: &[Way],
    ) -> Result<(Way, Link, Option<SocketAddr>), ReachError> {
        let addrs = resolve(&self.address).await?;
        let try_way = |way: Way| {
            let (reach, addrs) = (self.clone(), addrs.clone());
            async move { reach.connect_by(way, &addrs).await }
        };
        let found = first_of(ways, self.address.port, self.way_delay(), try_way).await;
        let (way, link) = found?;
        let other = of_other_family(&addrs, link.remote_address());
        Ok((way, link, other))
    }

    fn way_delay(&self) -> Duration {
        let measured = self.rtt.map(|rtt| rtt * WAY_RTTS);
        measured.map_or(WAY_DELAY, |it| it.clamp(LEAST_WAY_DELAY, WAY_DELAY))
    }

    async fn connect_by(self, way: Way, addrs: &[SocketAddr]) -> Result<Link, ConnectError> {
        let expect = self.pin.map_or(Expect::Any, Expect::Pin);
        let attempts = addrs.iter().map(|addr| {
            let (endpoint, addr) = (self.endpoint.clone(), SocketAddr::new(addr.ip(), way.port));
            async move {
                match way.transport {
                    Transport::Udp => {
                        let dialling = endpoint.connect(addr, Protocol::Tracker, expect);
                        dialling.await.map(Link::Quic)
                    }
                    Transport::Tcp => {
                        let dialling = connect_tcp(endpoint.identity(), addr, expect);
                        dialling.await.map(Link::Tcp)
                    }
                }
            }
        });
        let connected = race(attempts.collect::<Vec<_>>(), ADDRESS_DELAY).await;
        connected.map_err(|errors| most_telling(errors).unwrap_or_else(no_address))
    }
}

/// The first way that works. A wrong key at the port that the person named settles it: somebody
/// else is there. At port 443 that may well be, and the others are tried.
async fn first_of<T, A>(
    ways: &[Way],
    named_port: u16,
    head_start: Duration,
    mut try_way: impl FnMut(Way) -> A,
) -> Result<(Way, T), NotReached>
where
    T: Send + 'static,
    A: Future<Output = Result<T, ConnectError>> + Send + 'static,
{
    let attempts: Vec<_> = ways
        .iter()
        .map(|&way| {
            let trying = try_way(way);
            async move {
                match trying.await {
                    Ok(done) => Ok(Ok((way, done))),
                    Err(error) if way.port == named_port && is_mismatch(&error) => Ok(Err(error)),
                    Err(error) => Err((way, error)),
                }
            }
        })
        .collect();
    let errors = match race(attempts, head_start).await {
        Ok(settled) => return settled.map_err(|told| NotReached { told, by_tcp: None }),
        Err(errors) => errors,
    };
    let is_named_tcp = |way: &Way| way.transport == Transport::Tcp && way.port == named_port;
    let mut by_named_tcp = errors.iter().filter(|(way, _)| is_named_tcp(way));
    let by_tcp = by_named_tcp.find_map(|(_, error)| kind_of(error));
    // What the best way met is what the person can do something about, unless it is a wrong key.
    let best = |(way, error): &(Way, ConnectError)| {
        let place = ways_place(*way, named_port);
        (!is_mismatch(error), place)
    };
    let told = errors.into_iter().min_by_key(best);
    let told = told.map_or_else(no_address, |(_, error)| error);
    Err(NotReached { told, by_tcp })
}

fn ways_place(way: Way, named_port: u16) -> Option<usize> {
    ways(named_port).iter().position(|known| *known == way)
}

fn is_mismatch(error: &ConnectError) -> bool {
    matches!(error, ConnectError::KeyMismatch { .. })
}

/// A wrong key before a refusal before silence.
fn most_telling(errors: Vec<ConnectError>) -> Option<ConnectError> {
    errors.into_iter().min_by_key(|error| match error {
        ConnectError::KeyMismatch { .. } => 0,
        ConnectError::Refused { .. } => 1,
        ConnectError::TimedOut { .. } => 2,
    })
}

fn no_address() -> ConnectError {
    ConnectError::Refused {
        addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: "there is no address to try".into(),
    }
}

/// The first of another IP family than `reached`.
fn of_other_family(addrs: &[SocketAddr], reached: SocketAddr) -> Option<SocketAddr> {
    let is_ipv4 = |at: SocketAddr| at.ip().to_canonical().is_ipv4();
    let mut addrs = addrs.iter().copied();
    addrs.find(|addr| is_ipv4(*addr) != is_ipv4(reached))
}

async fn resolve(address: &HostPort) -> Result<Vec<SocketAddr>, ReachError> {
    let failed = |error| ReachError::Resolve(address.clone(), error);
    let port = address.port;
    match &address.host {
        Host::V4(ip) => Ok(vec![SocketAddr::new((*ip).into(), port)]),
        Host::V6(ip) => Ok(vec![SocketAddr::new((*ip).into(), port)]),
        Host::Name(name) => {
            let name = (name.to_string(), port);
            match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(name)).await {
                Ok(Ok(addrs)) => at_least_one(addrs.collect()).map_err(failed),
                Ok(Err(error)) => Err(failed(error.into())),
                Err(_) => Err(failed("the name server does not answer".into())),
            }
        }
    }
}

/// A name may have none: that is an answer, and no error, of the name server.
fn at_least_one(addrs: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    match addrs.is_empty() {
        true => Err("it has no address".into()),
        false => Ok(addrs),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::{Instant, sleep};
    use warren_proto::id::PublicKey;

    use super::*;
    use crate::tracker::fault::TrackerFault;
    use crate::tracker::session::SessionError;

    const NAMED: u16 = 59000;
    const NAMED_UDP: Way = way(Transport::Udp, NAMED);
    const WEB_UDP: Way = way(Transport::Udp, 443);
    const NAMED_TCP: Way = way(Transport::Tcp, NAMED);
    const WEB_TCP: Way = way(Transport::Tcp, 443);

    #[test]
    fn a_name_without_an_address_is_not_found() {
        let error = at_least_one(Vec::new()).unwrap_err();
        let address = "t.example:59000".parse().unwrap();
        let fault = SessionError::from(ReachError::Resolve(address, error)).fault();
        assert_eq!(fault, TrackerFault::NameUnknown);
        let addrs = vec![SocketAddr::from(([203, 0, 113, 1], 59000))];
        assert_eq!(at_least_one(addrs.clone()).unwrap(), addrs);
    }

    #[test]
    fn udp_comes_first_and_the_named_port_before_the_other() {
        assert_eq!(ways(NAMED), [NAMED_UDP, WEB_UDP, NAMED_TCP, WEB_TCP]);
        assert_eq!(ways(443), [WEB_UDP, WEB_TCP]);
        assert_eq!(better_ways(WEB_TCP, NAMED), [NAMED_UDP, WEB_UDP]);
        assert_eq!(better_ways(WEB_UDP, NAMED), []);
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_is_tried_750_ms_after_the_one_before() {
        let began = Instant::now();
        let tried = Arc::new(Mutex::new(Vec::new()));
        let try_way = |way: Way| {
            let tried = Arc::clone(&tried);
            async move {
                let at = began.elapsed().as_millis();
                tried.lock().unwrap().push((way, at));
                silence::<()>(way).await
            }
        };
        let silent = first_of(&ways(NAMED), NAMED, WAY_DELAY, try_way).await;
        assert!(
            matches!(told(silent), Some(ConnectError::TimedOut { addr }) if addr.port() == NAMED)
        );
        let expected = [
            (NAMED_UDP, 0),
            (WEB_UDP, 750),
            (NAMED_TCP, 1500),
            (WEB_TCP, 2250),
        ];
        assert_eq!(*tried.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn where_udp_is_silent_tcp_wins() {
        let try_way = |way: Way| async move {
            match way {
                NAMED_TCP => Ok("here"),
                _ => silence(way).await,
            }
        };
        let found = first_of(&ways(NAMED), NAMED, WAY_DELAY, try_way)
            .await
            .unwrap();
        assert_eq!(found, (NAMED_TCP, "here"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_key_at_the_named_port_settles_it() {
        for wrong in [NAMED_UDP, NAMED_TCP] {
            let try_way = |way: Way| async move {
                match way {
                    way if way == wrong => mismatch(way),
                    WEB_TCP => Ok("not this"),
                    _ => silence(way).await,
                }
            };
            let found = first_of(&ways(NAMED), NAMED, WAY_DELAY, try_way).await;
            assert!(matches!(
                told(found),
                Some(ConnectError::KeyMismatch { .. })
            ));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_key_at_port_443_is_told_only_when_nothing_works() {
        let try_way = |way: Way| async move {
            match way {
                WEB_UDP => mismatch(way),
                NAMED_TCP => Ok("here"),
                _ => silence(way).await,
            }
        };
        let found = first_of(&ways(NAMED), NAMED, WAY_DELAY, try_way)
            .await
            .unwrap();
        assert_eq!(found, (NAMED_TCP, "here"));
        let try_way = |way: Way| async move {
            match way {
                WEB_UDP => mismatch(way),
                _ => silence(way).await,
            }
        };
        let found = first_of::<(), _>(&ways(NAMED), NAMED, WAY_DELAY, try_way).await;
        assert!(matches!(
            told(found),
            Some(ConnectError::KeyMismatch { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_by_tcp_does_not_hide_that_udp_is_silent() {
        let try_way = |way: Way| async move {
            match way.transport {
                Transport::Udp => silence::<()>(way).await,
                Transport::Tcp => Err(ConnectError::Refused {
                    addr: at(way),
                    source: "refused".into(),
                }),
            }
        };
        let order = [NAMED_TCP, NAMED_UDP, WEB_UDP, WEB_TCP];
        let found = first_of(&order, NAMED, WAY_DELAY, try_way).await;
        assert!(
            matches!(told(found), Some(ConnectError::TimedOut { addr }) if addr.port() == NAMED)
        );
    }

    fn told<T>(found: Result<T, NotReached>) -> Option<ConnectError> {
        found.err().map(|error| error.told)
    }

    const fn way(transport: Transport, port: u16) -> Way {
        Way { transport, port }
    }

    fn at(way: Way) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 1], way.port))
    }

    async fn silence<T>(way: Way) -> Result<T, ConnectError> {
        sleep(Duration::from_secs(10)).await;
        Err(ConnectError::TimedOut { addr: at(way) })
    }

    fn mismatch<T>(way: Way) -> Result<T, ConnectError> {
        Err(ConnectError::KeyMismatch {
            addr: at(way),
            presented: PublicKey([1; 32]),
        })
    }
}
