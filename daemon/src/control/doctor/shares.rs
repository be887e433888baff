//! What keeps single shares from going on, or makes them slow: errors, pauses, limits, missing peers.

use super::{Code, Finding, Severity, Snapshot, count};
use crate::control::model::{Share, ShareState};
use warren_proto::content::path::printable;

/// Shares that are named one by one; a number stands for the others.
const NAMED: usize = 3;

/// A limit below this explains by itself that something takes long, in bits per second.
const SLOW_BITS_PER_S: u64 = 1_000_000;

pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = stopped(snapshot);
    findings.extend(changed(snapshot));
    findings.extend(paused(snapshot));
    findings.extend(alone(snapshot));
    findings.extend(lacking(snapshot));
    findings.extend(limits(snapshot));
    findings.extend(limited_shares(snapshot));
    findings
}

fn in_state(snapshot: &Snapshot, state: ShareState) -> Vec<&Share> {
    let shares = snapshot.shares.iter();
    shares.filter(|share| share.state == state).collect()
}

/// Each says why, so each is a finding as far as they are few.
fn stopped(snapshot: &Snapshot) -> Vec<Finding> {
    let stopped = in_state(snapshot, ShareState::Failed);
    let finding = |share: &&Share| {
        let cause = share.note.as_deref().unwrap_or("it does not say why");
        let name = name(share);
        let text = format!("{name} is stopped by an error: {cause}.");
        let action = format!("Mend that, then: client resume {name}");
        Code::ShareStopped
            .says(Severity::Error, text)
            .with(Some(action))
    };
    let mut findings: Vec<Finding> = stopped.iter().take(NAMED).map(finding).collect();
    if let more @ 1.. = stopped.len().saturating_sub(NAMED) {
        let text = format!("{more} more are stopped by errors.");
        let action = "See them all: client list".to_owned();
        let finding = Code::ShareStopped.says(Severity::Error, text);
        findings.push(finding.with(Some(action)));
    }
    findings
}

fn changed(snapshot: &Snapshot) -> Option<Finding> {
    let changed = in_state(snapshot, ShareState::Changed);
    let (names, is) = named(&changed)?;
    let text =
        format!("{names} {is} not what was shared any more, so nobody gets what has changed.");
    let action = "Put the files back, or fetch what is wrong again: client verify NAME; what is new is \
                  shared by client register.";
    let finding = Code::ShareChanged.says(Severity::Warning, text);
    Some(finding.with(Some(action.to_owned())))
}

fn paused(snapshot: &Snapshot) -> Option<Finding> {
    let paused = in_state(snapshot, ShareState::Paused);
    let (names, is) = named(&paused)?;
    let text = format!("{names} {is} paused, so nothing of it is fetched or given.");
    let action = "Go on with it: client resume NAME";
    let finding = Code::SharePaused.says(Severity::Note, text);
    Some(finding.with(Some(action.to_owned())))
}

/// Where no tracker is there to name peers, or peers were named and not reached, that is what is told.
fn alone(snapshot: &Snapshot) -> Option<Finding> {
    let has_tracker = snapshot.trackers.iter().any(|tracker| tracker.connected);
    let has_failed = snapshot
        .attempts
        .iter()
        .any(|it| it.connected_unix_ms.is_none());
    if !has_tracker || has_failed || !snapshot.under_way.is_empty() {
        return None;
    }
    let waiting = waiting(snapshot);
    let alone: Vec<&Share> = waiting.filter(|share| share.peers.total() == 0).collect();
    let (names, is) = named(&alone)?;
    let text = format!("{names} {is} waiting: nobody who has it is online.");
    let action = "Ask whoever shared it to start their daemon, and whether it announces to the same tracker \
                  (client link NAME shows which).";
    let finding = Code::NobodyHasIt.says(Severity::Warning, text);
    Some(finding.with(Some(action.to_owned())))
}

fn lacking(snapshot: &Snapshot) -> Option<Finding> {
    let waiting = waiting(snapshot);
    let lacking: Vec<&Share> = waiting.filter(|share| share.peers.total() > 0).collect();
    let (names, is) = named(&lacking)?;
    let text = format!("{names} {is} waiting: no connected peer has what is missing.");
    let action = "Wait for a peer that has all of it, or ask whoever shared it to come back.";
    let finding = Code::NobodyHasTheRest.says(Severity::Warning, text);
    Some(finding.with(Some(action.to_owned())))
}

fn waiting(snapshot: &Snapshot) -> impl Iterator<Item = &Share> {
    let is_waiting = |it: &&Share| matches!(it.state, ShareState::Waiting | ShareState::Metadata);
    snapshot.shares.iter().filter(is_waiting)
}

fn limits(snapshot: &Snapshot) -> Vec<Finding> {
    let limits = &snapshot.limits;
    let mut findings = Vec::new();
    for (code, limit, does, option) in [
        (Code::SendsSlowly, limits.up_bits_per_s, "sends", "up"),
        (
            Code::ReceivesSlowly,
            limits.down_bits_per_s,
            "receives",
            "down",
        ),
    ] {
        let Some(limit) = limit else { continue };
        let text = format!(
            "This daemon {does} at most {}, as it was told.",
            rate(limit)
        );
        let finding = code.says(severity(limit), text);
        findings.push(finding.with(Some(format!("Lift the limit: client limit --{option} off"))));
    }
    if limits.background {
        let text = "This daemon leaves links to whatever else is on them, as it was told.";
        let finding = Code::InBackground.says(Severity::Note, text);
        let action = "Have it take its part: client limit --background off".to_owned();
        findings.push(finding.with(Some(action)));
    }
    findings
}

/// Of those that go slower than all together may.
fn limited_shares(snapshot: &Snapshot) -> Option<Finding> {
    let least = |share: &Share| {
        share
            .up_bits_per_s
            .into_iter()
            .chain(share.down_bits_per_s)
            .min()
    };
    let shares = snapshot.shares.iter();
    let limited: Vec<&Share> = shares.filter(|share| least(share).is_some()).collect();
    let slowest = limited.iter().filter_map(|share| least(share)).min()?;
    let (names, is) = named(&limited)?;
    let text = format!(
        "{names} {is} limited by itself, to {} at the least.",
        rate(slowest)
    );
    let action = "Lift the limit: client limit --share NAME --up off --down off";
    let finding = Code::ShareIsLimited.says(severity(slowest), text);
    Some(finding.with(Some(action.to_owned())))
}

fn severity(bits_per_s: u64) -> Severity {
    match bits_per_s < SLOW_BITS_PER_S {
        true => Severity::Warning,
        false => Severity::Note,
    }
}

/// `20 Mbit/s`.
fn rate(bits_per_s: u64) -> String {
    match bits_per_s {
        1_000_000_000.. => format!("{:.1} Gbit/s", bits_per_s as f64 / 1e9),
        10_000_000.. => format!("{} Mbit/s", bits_per_s / 1_000_000),
        1_000_000.. => format!("{:.1} Mbit/s", bits_per_s as f64 / 1e6),
        _ => format!("{} kbit/s", bits_per_s / 1_000),
    }
}

/// The names of some shares, and whether that *is* or *are*; nothing of none.
fn named(shares: &[&Share]) -> Option<(String, &'static str)> {
    let (last, before) = shares.split_last()?;
    if shares.len() > NAMED {
        return Some((count(shares.len(), "share"), "are"));
    }
    if before.is_empty() {
        return Some((name(last), "is"));
    }
    let before: Vec<String> = before.iter().map(|share| name(share)).collect();
    Some((format!("{} and {}", before.join(", "), name(last)), "are"))
}

/// As a person calls it; a link may not have brought its name yet. On one line, whatever it holds.
fn name(share: &Share) -> String {
    match share.name.is_empty() {
        true => share.content_id.chars().take(12).collect(),
        false => printable(&share.name).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_in_a_unit_that_fits() {
        for (bits, text) in [
            (64_000, "64 kbit/s"),
            (1_500_000, "1.5 Mbit/s"),
            (20_000_000, "20 Mbit/s"),
            (2_500_000_000, "2.5 Gbit/s"),
        ] {
            assert_eq!(rate(bits), text);
        }
    }
}
