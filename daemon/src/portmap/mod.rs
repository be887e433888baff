//! Asks the router for a way in: a port of its outside address that leads to our socket, by PCP,
//! NAT-PMP and UPnP.
//!
//! One task asks, renews, and gives back when the daemon stops. Nothing waits for it: shares are
//! announced without, and when there is a port, the situation told to the trackers gains a
//! candidate. It asks only where there is a NAT: the tracker must have seen us at an address that is
//! not our own, so a daemon whose tracker is on the same machine, or that has a public address, sends
//! nothing to anybody ([`plan`]). What the router grants is told to nobody before a packet has come
//! in by it ([`proof`]).
//!
//! By concern: [`plan`] which router, if any; [`mapper`] what it is asked for when, in the words of
//! [`message`] or through [`upnp`]; [`task`] the sockets and the loop; [`state`] what people see.

mod epoch;
#[cfg(test)]
mod fake_router;
mod mapper;
mod message;
mod plan;
mod proof;
mod request;
mod state;
mod task;
mod upnp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warren_proto::nat::echo;

use crate::node::{NodeEvent, NodeSender};
pub(crate) use state::{PortState, Unasked};

/// Probes that may wait; one is enough, and more come only from somebody who guesses.
const PROBES: usize = 4;

/// Whether a router may be asked for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMapping {
    /// Where there is a NAT.
    WhereNeeded,
    /// Never: the person does not want it.
    Off,
    /// Never: nobody is sent to the port of who is reached through the tracker alone.
    RelayOnly,
}

/// What the node is told.
#[derive(Debug)]
pub(crate) enum PortNews {
    /// How things stand now.
    State(PortState),
    /// Our own tracker shall send a probe to this port of our outside address.
    Probe {
        /// The port.
        port: u16,
        /// What the probe carries.
        token: [u8; 12],
    },
}

/// The way to the task.
#[derive(Clone, Debug)]
pub(crate) struct PortHandle {
    observed: watch::Sender<Option<IpAddr>>,
    changed: Arc<Notify>,
    probes: mpsc::Sender<[u8; 12]>,
}

impl PortHandle {
    /// The tracker sees us at this address.
    pub(crate) fn observed(&self, reflexive: Option<SocketAddr>) {
        let Some(ip) = reflexive.map(|it| it.ip().to_canonical()) else {
            return;
        };
        self.observed
            .send_if_modified(|known| known.replace(ip) != Some(ip));
    }

    /// This machine may be in another network, or the router another one or started anew.
    pub(crate) fn network_changed(&self) {
        self.changed.notify_one();
    }

    /// Takes in what arrived on the socket and is for nobody else.
    pub(crate) fn handle_datagram(&self, bytes: &[u8]) {
        if let Some(token) = echo::token_of(bytes) {
            // One is enough.
            let _ = self.probes.try_send(token);
        }
    }
}

/// Starts the task for the socket that listens at `listening`. It ends when `stop` is cancelled,
/// within [`task::RELEASE_TIME`] of that: what the router has granted is given back first.
pub(crate) fn start(
    port_mapping: PortMapping,
    listening: SocketAddr,
    node: NodeSender,
    stop: CancellationToken,
) -> (PortHandle, JoinHandle<()>) {
    let (observed, seen) = watch::channel(None);
    let (probes, arriving) = mpsc::channel(PROBES);
    let changed = Arc::<Notify>::default();
    let handle = PortHandle {
        observed,
        changed: changed.clone(),
        probes,
    };
    let inputs = task::Inputs {
        observed: seen,
        changed,
        probes: arriving,
    };
    let task = tokio::spawn(async move {
        let unasked = match port_mapping {
            PortMapping::WhereNeeded => {
                return task::PortTask::new(listening, node, inputs).run(stop).await;
            }
            PortMapping::Off => Unasked::TurnedOff,
            PortMapping::RelayOnly => Unasked::RelayOnly,
        };
        let news = PortNews::State(PortState::Unasked(unasked));
        node.send(NodeEvent::Port(news)).await;
    });
    (handle, task)
}
