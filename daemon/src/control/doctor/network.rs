//! How other networks see us, and whether our router lets peers in.
//!
//! What a tracker can tell of our NAT it has measured by UDP. While none is reached that way, what
//! was measured before may be of another network, and is not told.

use std::net::{IpAddr, SocketAddr};

use warren_proto::wire::Paths;

use super::trackers::is_by_udp;
use super::{Code, Finding, Severity, Snapshot};
use crate::control::model::{PortMapping, PortMappingState, Tracker};

pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings: Vec<Finding> = by_choice(snapshot).into_iter().collect();
    findings.extend(relays_nothing(snapshot));
    findings.extend(narrow(&snapshot.narrow_bytes));
    if snapshot.listening.ip().is_loopback() {
        findings.push(listens_locally());
        return findings;
    }
    match snapshot.tracker_is_here {
        true => findings.push(tracker_is_here()),
        false => {
            findings.extend(nat(snapshot));
            findings.extend(hairpin(snapshot));
        }
    }
    findings.extend(port(snapshot));
    findings.extend(families(&snapshot.addresses));
    findings
}

/// What whoever started the daemon has ruled out.
fn by_choice(snapshot: &Snapshot) -> Option<Finding> {
    let (code, text, action) = match snapshot.paths {
        Paths::Any => return None,
        Paths::RelayOnly => (
            Code::RelayOnly,
            "This daemon was started with --relay-only: it reaches peers through its tracker alone, so \
             all of them share what the tracker passes on.",
            "Start it without --relay-only, if peers may learn the address of this machine.",
        ),
        Paths::DirectOnly => (
            Code::DirectOnly,
            "This daemon was started with --no-relay: peers to which there is no direct path are not \
             reached.",
            "Start it without --no-relay, if the tracker may pass on, unreadably, what goes to such peers.",
        ),
    };
    let finding = code.says(Severity::Note, text);
    Some(finding.with(Some(action.to_owned())))
}

/// A tracker that offers no way where there is no direct one.
fn relays_nothing(snapshot: &Snapshot) -> Option<Finding> {
    let mut trackers = snapshot.trackers.iter();
    let tracker = trackers.find(|tracker| tracker.relays == Some(false))?;
    let text = format!(
        "The tracker {} offers no relay: peers to which there is no direct path are not reached.",
        tracker.address
    );
    let action =
        "Ask who runs the tracker to start it with --relay RATE, if some peers are not reached.";
    let finding = Code::RelaysNothing.says(Severity::Note, text);
    Some(finding.with(Some(action.to_owned())))
}

/// A path that takes no packets of the usual size (RFC 8899): each packet costs the same, however small.
fn narrow(narrow_bytes: &[u16]) -> Option<Finding> {
    let least = narrow_bytes.iter().min()?;
    let number = narrow_bytes.len();
    let paths = match number {
        1 => "The path to 1 peer takes".to_owned(),
        _ => format!("The paths to {number} peers take"),
    };
    let text =
        format!("{paths} no packets of the usual size, only such with up to {least} bytes of UDP.");
    let action = "Look for a VPN or tunnel on the way, on either side, and raise its MTU if its network \
                  allows (ip link); what is sent is made to fit meanwhile.";
    let finding = Code::NarrowPath.says(Severity::Note, text);
    Some(finding.with(Some(action.to_owned())))
}

fn listens_locally() -> Finding {
    let text = "This daemon listens to this machine alone, so no other machine can reach it.";
    let action = "Start it without --listen, or with --listen [::]:PORT.";
    let finding = Code::ListensLocally.says(Severity::Warning, text);
    finding.with(Some(action.to_owned()))
}

fn tracker_is_here() -> Finding {
    let text =
        "The tracker is on this machine, so how other networks see this daemon is not known.";
    Code::TrackerIsHere.says(Severity::Note, text)
}

/// How a NAT picks outside ports (RFC 4787 §4.1), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    Unknown,
    Same,
    Random,
    Counted,
    Other,
}

impl Mapping {
    /// What the word of an [`Attempt`](super::Attempt) or a [`Tracker`] means. A word of a newer
    /// program counts as not known.
    pub(super) fn of_word(word: &str) -> Mapping {
        match word {
            "endpoint-independent" => Mapping::Same,
            "random" => Mapping::Random,
            "sequential" => Mapping::Counted,
            "address-dependent" => Mapping::Other,
            _ => Mapping::Unknown,
        }
    }

    /// Of our own NAT, as it is now.
    pub(super) fn ours(snapshot: &Snapshot) -> Mapping {
        match measured_by(snapshot) {
            Some(tracker) => Mapping::of_word(&tracker.mapping),
            None => Mapping::Unknown,
        }
    }

    /// Whether each destination sees another port.
    pub(super) fn is_by_destination(self) -> bool {
        matches!(self, Mapping::Random | Mapping::Counted | Mapping::Other)
    }
}

/// A tracker that knows our NAT. One on this machine or network sees none.
fn measured_by(snapshot: &Snapshot) -> Option<&Tracker> {
    let is_blind = snapshot.tracker_is_here || snapshot.listening.ip().is_loopback();
    let mut trackers = snapshot.trackers.iter();
    trackers.find(|tracker| !is_blind && is_by_udp(tracker))
}

fn nat(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(tracker) = measured_by(snapshot) else {
        let text = "How your router treats UDP is not known, since no tracker is known to be reached by UDP.";
        return vec![Code::PortsUnknown.says(Severity::Note, text)];
    };
    let by_destination = |code, how| vec![ports_by_destination(snapshot, tracker, code, how)];
    match Mapping::of_word(&tracker.mapping) {
        Mapping::Same => same_port(snapshot, tracker),
        Mapping::Random => by_destination(Code::RandomPorts, ", at random"),
        Mapping::Counted => by_destination(Code::CountedPorts, ", each a fixed step from the last"),
        Mapping::Other => by_destination(Code::OtherPorts, ""),
        Mapping::Unknown => {
            let text = "How your router picks ports is not known yet.";
            vec![Code::PortsUnknown.says(Severity::Note, text)]
        }
    }
}

fn same_port(snapshot: &Snapshot, tracker: &Tracker) -> Vec<Finding> {
    // With a port that is open for all, what is let in elsewhere does not matter.
    let filtering = match snapshot.port.state {
        PortMappingState::Open => "",
        _ => tracker.filtering.as_str(),
    };
    let lets_in = match filtering {
        "port-independent" => ", and whom it has contacted may answer from another port",
        "port-dependent" | "clashing" => ", and only what it has contacted gets in",
        _ => "",
    };
    let text = match tracker.mapping_depends_on.as_deref() {
        Some("nothing") => format!("Every destination sees this daemon at the same port{lets_in}."),
        // One with a second address could.
        _ => format!(
            "As far as the tracker can tell, every destination sees this daemon at the same port{lets_in}."
        ),
    };
    let mut findings = vec![Code::SamePort.says(Severity::Ok, text)];
    if filtering == "clashing" {
        let text = "A packet that comes in too early costs this daemon its usual port towards that \
                    peer for half a minute; it is careful about that.";
        findings.push(Code::EarlyPacketsClash.says(Severity::Note, text));
    }
    findings
}

/// Whether two behind our NAT may meet by its outside address (RFC 4787 §6).
fn hairpin(snapshot: &Snapshot) -> Option<Finding> {
    let has_router = snapshot.port.state != PortMappingState::Unneeded;
    let hairpins = measured_by(snapshot).filter(|_| has_router)?.hairpinning?;
    let finding = match hairpins {
        true => {
            let text = "The router leads packets for its own outside address back in.";
            Code::Hairpin.says(Severity::Ok, text)
        }
        false => {
            let text = "The router does not lead packets for its own outside address back in, so \
                        daemons behind it meet by their addresses in the local network or through the \
                        tracker.";
            Code::Hairpin.says(Severity::Note, text)
        }
    };
    Some(finding)
}

fn ports_by_destination(snapshot: &Snapshot, tracker: &Tracker, code: Code, how: &str) -> Finding {
    let destination = match tracker.mapping_depends_on.as_deref() {
        Some("address") => "IP address that this daemon sends to",
        _ => "destination",
    };
    let text =
        format!("Your router, or your provider's, gives every {destination} another port{how}");
    match snapshot.port.state {
        PortMappingState::Open => {
            let text =
                format!("{text}; the port that it has opened for this daemon makes up for it.");
            code.says(Severity::Note, text)
        }
        _ => {
            let text = format!(
                "{text}, so that peers behind such a router or a strict one are hard to reach directly."
            );
            let finding = code.says(Severity::Warning, text);
            finding.with(advice(snapshot))
        }
    }
}

/// What can be done for a port that lets everybody in.
fn advice(snapshot: &Snapshot) -> Option<String> {
    let port = snapshot.listening.port();
    let by_hand = match Mapping::ours(snapshot) {
        // Peers are told the port that the tracker sees, so one opened by hand must be that one.
        Mapping::Same => format!(
            ", or open UDP port {port} there for this machine and always start the daemon with \
             --listen [::]:{port}"
        ),
        _ => String::new(),
    };
    let advice = match snapshot.port.state {
        PortMappingState::Silent => format!("Switch UPnP or NAT-PMP on at the router{by_hand}."),
        PortMappingState::Refused => {
            format!("Let this machine open ports by UPnP or NAT-PMP at the router{by_hand}.")
        }
        PortMappingState::BehindNat => "Have the outer router pass everything on to yours, or ask \
                                        your provider for a public address."
            .to_owned(),
        PortMappingState::Shut => {
            "Look for a firewall, on the router or on this machine, that stops \
                                   incoming UDP."
                .to_owned()
        }
        PortMappingState::Off => "Start the daemon without --no-port-mapping, so that it asks the \
                                  router for an open port."
            .to_owned(),
        PortMappingState::Waiting
        | PortMappingState::Unneeded
        | PortMappingState::NoRouter
        | PortMappingState::Asking
        | PortMappingState::Checking
        | PortMappingState::Open => return None,
    };
    Some(advice)
}

fn port(snapshot: &Snapshot) -> Option<Finding> {
    let (code, severity, text) = match snapshot.port.state {
        PortMappingState::Open => {
            let text = format!("The router lets peers in{}.", by_which(&snapshot.port));
            return Some(Code::PortOpen.says(Severity::Ok, text));
        }
        PortMappingState::Asking => (
            Code::PortNotKnown,
            Severity::Note,
            "Whether the router opens a port for peers is not known yet: it is being asked.",
        ),
        PortMappingState::Checking => (
            Code::PortNotKnown,
            Severity::Note,
            "The router says that it has opened a port; whether peers get in by it is not known yet.",
        ),
        PortMappingState::Silent => (
            Code::RouterSilent,
            Severity::Note,
            "The router does not open ports when asked: it answers neither PCP nor NAT-PMP nor UPnP.",
        ),
        PortMappingState::Refused => (
            Code::RouterRefuses,
            Severity::Note,
            "The router refuses to open a port for this daemon.",
        ),
        PortMappingState::BehindNat => (
            Code::RouterBehindNat,
            Severity::Note,
            "Your router is itself behind another one, so the port that it has opened lets in nobody \
             but those behind that one, too.",
        ),
        PortMappingState::Shut => (
            Code::PortShut,
            Severity::Warning,
            "The router says that it has opened a port, but packets do not come in by it.",
        ),
        PortMappingState::Off => (
            Code::PortMappingOff,
            Severity::Note,
            "The router is not asked to let peers in, as --no-port-mapping says.",
        ),
        PortMappingState::NoRouter => (
            Code::NoRouter,
            Severity::Note,
            "No router was found that leads out of this network.",
        ),
        PortMappingState::Waiting | PortMappingState::Unneeded => return None,
    };
    // What is said once is not said again.
    let is_said = Mapping::ours(snapshot).is_by_destination();
    let action = advice(snapshot).filter(|_| !is_said);
    Some(code.says(severity, text).with(action))
}

/// ` by UDP port 6000 (PCP)`, as far as it is known.
fn by_which(port: &PortMapping) -> String {
    let address = port.address.as_deref().map(str::parse::<SocketAddr>);
    let Some(Ok(address)) = address else {
        return String::new();
    };
    let protocol = port
        .protocol
        .as_ref()
        .map(|protocol| format!(" ({protocol})"));
    format!(
        " by UDP port {}{}",
        address.port(),
        protocol.unwrap_or_default()
    )
}

fn families(addresses: &[IpAddr]) -> Option<Finding> {
    if addresses.is_empty() {
        let text = "This machine has no address that another machine could use.";
        let finding = Code::NoAddress.says(Severity::Warning, text);
        return Some(finding.with(Some("Connect it to a network.".to_owned())));
    }
    if addresses.iter().any(is_public_ipv6) {
        return None;
    }
    let text = "This daemon has no public IPv6 address, so peers that have nothing else are not \
                reached directly.";
    Some(Code::NoIpv6.says(Severity::Note, text))
}

/// Global unicast, 2000::/3 (RFC 4291 §2.4).
fn is_public_ipv6(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
        IpAddr::V4(_) => false,
    }
}
