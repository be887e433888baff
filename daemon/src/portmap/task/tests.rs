//! The task against a router on loopback.

use tokio::task::JoinHandle;
use warren_proto::wire::CandidateKind;

use super::*;
use crate::node;
use crate::portmap::fake_router::{FakeRouter, OUTSIDE, Script, Upnp};
use crate::portmap::mapper::{Failure, Opened, Protocol};

/// The port that our socket is said to have; nothing is sent there.
const INSIDE: u16 = 5000;

#[tokio::test]
async fn a_port_is_told_only_once_a_probe_has_come_in_by_it() {
    let mut home = Home::start(PCP, OUTSIDE).await;
    let opened = opened(Protocol::Pcp, 40_000);
    home.wait_for(&PortState::Checking(opened)).await;
    assert_eq!(PortState::Checking(opened).candidate(), None);
    let (port, token) = home.asked_probe().await;
    assert_eq!(port, 40_000);
    // Somebody who guesses.
    home.probes.send([0; 12]).await.unwrap();
    home.probes.send(token).await.unwrap();
    home.wait_for(&PortState::Open(opened)).await;
    let candidate = PortState::Open(opened).candidate().unwrap();
    assert_eq!(candidate.address, (OUTSIDE, 40_000).into());
}

#[tokio::test]
async fn a_daemon_that_stops_gives_back_what_pcp_has_granted() {
    let mut home = Home::start(PCP, OUTSIDE).await;
    home.wait_for(&PortState::Checking(opened(Protocol::Pcp, 40_000)))
        .await;
    home.stop().await.heard("pcp map 0").await;
}

#[tokio::test]
async fn a_router_behind_another_nat_is_no_way_in() {
    let carrier = "198.51.100.1".parse().unwrap();
    let mut home = Home::start(PCP, carrier).await;
    let state = PortState::BehindNat {
        opened: opened(Protocol::Pcp, 40_000),
        observed: carrier.into(),
    };
    home.wait_for(&state).await;
    assert_eq!(state.candidate(), None, "it may be anybody's");
    assert!(state.to_string().contains("behind another NAT"), "{state}");
    // It would have come before the state.
    assert_eq!(home.asked, []);
}

#[tokio::test]
async fn behind_a_carriers_nat_the_port_of_the_router_is_told_but_not_as_open() {
    let carrier = "198.51.100.1".parse().unwrap();
    let outside: SocketAddrV4 = "100.64.3.4:40000".parse().unwrap();
    let behind = Script {
        pcp: Some(outside),
        ..PCP
    };
    let mut home = Home::start(behind, carrier).await;
    let opened = Opened {
        protocol: Protocol::Pcp,
        outside,
    };
    let observed = carrier.into();
    let state = PortState::BehindNat { opened, observed };
    home.wait_for(&state).await;
    let candidate = state.candidate().unwrap();
    assert_eq!(candidate.kind, CandidateKind::Mapped);
    assert_eq!(candidate.address, outside.into());
    assert!(!state.is_open());
    // The tracker stands on the other side of the carrier's NAT.
    assert_eq!(home.asked, []);
}

#[tokio::test]
async fn a_router_with_upnp_alone_opens_the_port_and_closes_it() {
    let mut home = Home::start(upnp(Upnp::Grants), OUTSIDE).await;
    home.wait_for(&PortState::Checking(opened(Protocol::Upnp, INSIDE)))
        .await;
    home.router.heard("add 5000 127.0.0.1 5000 7200").await;
    home.stop().await.heard("delete 5000").await;
}

#[tokio::test]
async fn where_the_port_is_taken_another_is_opened() {
    let mut home = Home::start(upnp(Upnp::PortTaken), OUTSIDE).await;
    let state = home.wait_until(|state| matches!(state, PortState::Checking(_)));
    let PortState::Checking(opened) = state.await else {
        unreachable!("waited for it");
    };
    assert_ne!(opened.outside.port(), INSIDE);
    let port = opened.outside.port();
    home.router
        .heard(&format!("add {port} 127.0.0.1 5000"))
        .await;
}

#[tokio::test]
async fn a_router_whose_ports_never_close_is_asked_for_that() {
    let mut home = Home::start(upnp(Upnp::OnlyForever), OUTSIDE).await;
    home.wait_for(&PortState::Checking(opened(Protocol::Upnp, INSIDE)))
        .await;
    home.router.heard("add 5000 127.0.0.1 5000 0").await;
    home.stop().await.heard("delete 5000").await;
}

#[tokio::test]
async fn a_refusal_by_upnp_is_told() {
    let mut home = Home::start(upnp(Upnp::Refuses), OUTSIDE).await;
    let refused = Failure::Refused(Protocol::Upnp, Refusal::NotAllowed);
    home.wait_for(&PortState::Failed(refused)).await;
}

#[tokio::test]
async fn an_answer_that_points_at_another_machine_is_not_followed() {
    let victim = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let elsewhere = Upnp::PointsElsewhere(victim.local_addr().unwrap());
    let mut home = Home::start(upnp(elsewhere), OUTSIDE).await;
    home.wait_for(&PortState::Failed(Failure::Silent)).await;
    let visited = victim.accept();
    assert_eq!(visited.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn who_has_turned_it_off_asks_nobody() {
    let (node, mut news) = node::channel();
    let listening = "0.0.0.0:5000".parse().unwrap();
    let off = crate::portmap::PortMapping::Off;
    let (handle, task) = crate::portmap::start(off, listening, node, CancellationToken::new());
    task.await.unwrap();
    // Nothing is left that could ask.
    handle.observed(Some("203.0.113.7:5000".parse().unwrap()));
    handle.network_changed();
    let Some(NodeEvent::Port(PortNews::State(state))) = news.recv().await else {
        panic!("nothing was told");
    };
    assert_eq!(state, PortState::Unasked(Unasked::TurnedOff));
}

#[tokio::test]
async fn a_daemon_on_loopback_asks_nobody_whatever_the_tracker_sees() {
    let (node, mut news) = node::channel();
    let stop = CancellationToken::new();
    let wanted = crate::portmap::PortMapping::WhereNeeded;
    let listening = "127.0.0.1:5000".parse().unwrap();
    let (handle, task) = crate::portmap::start(wanted, listening, node, stop.clone());
    handle.observed(Some("203.0.113.7:5000".parse().unwrap()));
    handle.network_changed();
    let Some(NodeEvent::Port(PortNews::State(state))) = news.recv().await else {
        panic!("nothing was told");
    };
    assert_eq!(state, PortState::Unasked(Unasked::Local));
    stop.cancel();
    task.await.unwrap();
    assert!(news.recv().await.is_none(), "something else was told");
}

const PCP: Script = Script {
    pcp: Some(SocketAddrV4::new(OUTSIDE, 40_000)),
    upnp: None,
};

fn upnp(upnp: Upnp) -> Script {
    Script {
        pcp: None,
        upnp: Some(upnp),
    }
}

fn opened(protocol: Protocol, port: u16) -> Opened {
    Opened {
        protocol,
        outside: SocketAddrV4::new(OUTSIDE, port),
    }
}

/// A task that asks a router, and what it tells.
struct Home {
    router: FakeRouter,
    news: mpsc::Receiver<NodeEvent>,
    probes: mpsc::Sender<Token>,
    /// Probes that were asked for.
    asked: Vec<(u16, Token)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _observed: watch::Sender<Option<IpAddr>>,
}

impl Home {
    /// The tracker sees us at `observed`.
    async fn start(script: Script, observed: std::net::Ipv4Addr) -> Home {
        let router = FakeRouter::start(script).await;
        let (node, news) = node::channel();
        let (probes, arriving) = mpsc::channel(4);
        let (seen, observed) = watch::channel(Some(observed.into()));
        let inputs = Inputs {
            observed,
            changed: Arc::default(),
            probes: arriving,
        };
        let listening = (std::net::Ipv4Addr::UNSPECIFIED, INSIDE).into();
        let mut task = PortTask::new(listening, node, inputs);
        task.turn_to(Ok(router.router)).await;
        let stop = CancellationToken::new();
        Home {
            router,
            news,
            probes,
            asked: Vec::new(),
            stop: stop.clone(),
            task: tokio::spawn(task.serve(stop)),
            _observed: seen,
        }
    }

    async fn wait_for(&mut self, state: &PortState) {
        self.wait_until(|told| told == state).await;
    }

    async fn wait_until(&mut self, is_it: impl Fn(&PortState) -> bool) -> PortState {
        loop {
            match self.next().await {
                PortNews::State(state) if is_it(&state) => return state,
                PortNews::State(_) => (),
                PortNews::Probe { port, token } => self.asked.push((port, token)),
            }
        }
    }

    async fn asked_probe(&mut self) -> (u16, Token) {
        if let Some(asked) = self.asked.pop() {
            return asked;
        }
        loop {
            if let PortNews::Probe { port, token } = self.next().await {
                return (port, token);
            }
        }
    }

    async fn next(&mut self) -> PortNews {
        let next = timeout(Duration::from_secs(30), self.news.recv()).await;
        match next.expect("nothing is told any more") {
            Some(NodeEvent::Port(news)) => news,
            other => panic!("{other:?}"),
        }
    }

    /// Stops the task in good order.
    async fn stop(self) -> FakeRouter {
        self.stop.cancel();
        self.task.await.unwrap();
        self.router
    }
}
