//! What keeps single shares from going on, or makes them slow: errors, pauses, limits, missing peers.

use super::reach::Reach;
use super::{Code, Finding, Severity, Snapshot};
use crate::control::limits::rate;
use crate::control::model::{Share, ShareState, exit};
use crate::control::words::{count, short_id, typed};
use warren_proto::content::path::printable;

/// Shares that are named one by one; a number stands for the others.
const NAMED: usize = 3;

/// A limit below this explains by itself that something takes long, in bits per second.
const SLOW_BITS_PER_S: u64 = 1_000_000;

pub(super) fn findings(snapshot: &Snapshot, reach: &Reach) -> Vec<Finding> {
    let mut findings = stopped(snapshot);
    findings.extend(changed(snapshot));
    findings.extend(paused(snapshot));
    findings.extend(alone(snapshot, reach));
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
        let text = format!("{} is stopped by an error: {cause}.", name(snapshot, share));
        let (which, idx) = (argument(snapshot, share), snapshot.idx);
        let action = format!("Mend that, then: client resume {which} {idx}");
        Code::ShareStopped
            .says(Severity::Error, text)
            .with(Some(action))
    };
    let mut findings: Vec<Finding> = stopped.iter().take(NAMED).map(finding).collect();
    if let more @ 1.. = stopped.len().saturating_sub(NAMED) {
        let are = if more == 1 { "is" } else { "are" };
        let text = format!("{more} more {are} stopped by errors.");
        let action = format!("See them all: client list {}", snapshot.idx);
        let finding = Code::ShareStopped.says(Severity::Error, text);
        findings.push(finding.with(Some(action)));
    }
    findings
}

fn changed(snapshot: &Snapshot) -> Option<Finding> {
    let changed = in_state(snapshot, ShareState::Changed);
    let (names, is) = named(snapshot, &changed)?;
    let text =
        format!("{names} {is} not what was shared any more, so nobody gets what has changed.");
    let verify = each(snapshot, &changed, |share, idx| {
        format!("client verify {} {idx}", argument(snapshot, share))
    });
    let register = each(snapshot, &changed, |share, idx| {
        let path = snapshot.changed.get(&share.content_id);
        let path = path.map_or("PATH".to_owned(), |path| typed(path));
        format!("client register {path} {idx}")
    });
    let action = format!(
        "Put the files back, or have what is wrong of a download fetched again, which keeps what was changed beside \
         it: {verify}. To share what is there now: {register}"
    );
    let finding = Code::ShareChanged.says(Severity::Warning, text);
    Some(finding.with(Some(action)))
}

fn paused(snapshot: &Snapshot) -> Option<Finding> {
    let paused = in_state(snapshot, ShareState::Paused);
    let (names, is) = named(snapshot, &paused)?;
    let it = if paused.len() == 1 { "it" } else { "them" };
    let text = format!("{names} {is} paused, so nothing of {it} is fetched or given.");
    let resume = each(snapshot, &paused, |share, idx| {
        format!("client resume {} {idx}", argument(snapshot, share))
    });
    let action = format!("Go on with {it}: {resume}");
    let finding = Code::SharePaused.says(Severity::Note, text);
    Some(finding.with(Some(action)))
}

/// Where no tracker is there to name peers, or peers were named and not reached, that is what is told.
fn alone(snapshot: &Snapshot, reach: &Reach) -> Option<Finding> {
    let has_tracker = snapshot.trackers.iter().any(|tracker| tracker.connected);
    let has_failed = reach.summary(exit::OK).failed > 0;
    if !has_tracker || has_failed || !snapshot.under_way.is_empty() {
        return None;
    }
    let waiting = waiting(snapshot);
    let alone: Vec<&Share> = waiting.filter(|share| share.peers.total() == 0).collect();
    let (names, is) = named(snapshot, &alone)?;
    let text = format!("{names} {is} waiting: nobody who has it is online.");
    let mut trackers = snapshot.trackers.iter().map(|it| it.address.as_str());
    let ours = trackers.next().unwrap_or("yours");
    let action = format!(
        "Ask whoever shared it to start their daemon, and whether it announces to the same tracker ({ours})."
    );
    let finding = Code::NobodyHasIt.says(Severity::Warning, text);
    Some(finding.with(Some(action)))
}

fn lacking(snapshot: &Snapshot) -> Option<Finding> {
    let waiting = waiting(snapshot);
    let lacking: Vec<&Share> = waiting.filter(|share| share.peers.total() > 0).collect();
    let (names, is) = named(snapshot, &lacking)?;
    let text = format!("{names} {is} waiting: no connected peer has what is missing.");
    let action = "Wait for a peer that has all of it, or ask whoever shared it to come back.";
    let finding = Code::NobodyHasTheRest.says(Severity::Warning, text);
    Some(finding.with(Some(action.to_owned())))
}

fn waiting(snapshot: &Snapshot) -> impl Iterator<Item = &Share> {
    let shares = snapshot.shares.iter();
    shares.filter(|share| share.state == ShareState::Waiting)
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
        let action = format!(
            "Lift the limit: client limit {} --{option} off",
            snapshot.idx
        );
        findings.push(finding.with(Some(action)));
    }
    if limits.background {
        let text = "This daemon leaves links to whatever else is on them, as it was told.";
        let finding = Code::InBackground.says(Severity::Note, text);
        let idx = snapshot.idx;
        let action = format!("Have it take its part: client limit {idx} --background off");
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
    let (names, is) = named(snapshot, &limited)?;
    let text = format!(
        "{names} {is} limited by itself, to {} at the least.",
        rate(slowest)
    );
    let lift = each(snapshot, &limited, |share, idx| {
        let which = argument(snapshot, share);
        format!("client limit {idx} --share {which} --up off --down off")
    });
    let action = format!("Lift the limit: {lift}");
    let finding = Code::ShareIsLimited.says(severity(slowest), text);
    Some(finding.with(Some(action)))
}

fn severity(bits_per_s: u64) -> Severity {
    match bits_per_s < SLOW_BITS_PER_S {
        true => Severity::Warning,
        false => Severity::Note,
    }
}

/// The names of some shares, and whether that *is* or *are*; nothing of none.
fn named(snapshot: &Snapshot, shares: &[&Share]) -> Option<(String, &'static str)> {
    let (last, before) = shares.split_last()?;
    if shares.len() > NAMED {
        return Some((count(shares.len(), "share"), "are"));
    }
    if before.is_empty() {
        return Some((name(snapshot, last), "is"));
    }
    let before: Vec<String> = before.iter().map(|share| name(snapshot, share)).collect();
    let last = name(snapshot, last);
    Some((format!("{} and {last}", before.join(", ")), "are"))
}

/// As a person calls it, on one line, whatever the name holds. Its id says which it is where that is not
/// enough; a link may not have brought its name yet.
fn name(snapshot: &Snapshot, share: &Share) -> String {
    let id = short_id(&share.content_id);
    match (share.name.is_empty(), is_alone(snapshot, share)) {
        (true, _) => id,
        (false, true) => printable(&share.name).to_string(),
        (false, false) => format!("{} ({id})", printable(&share.name)),
    }
}

/// A command for each of some shares, as far as they are few, as it can be typed. It is made of the share and of
/// our number.
fn each(snapshot: &Snapshot, shares: &[&Share], command: impl Fn(&Share, u16) -> String) -> String {
    let idx = snapshot.idx;
    let few = shares.iter().take(NAMED);
    let mut commands: Vec<String> = few.map(|share| command(share, idx)).collect();
    if shares.len() > NAMED {
        commands.push(format!("and so on; see them all: client list {idx}"));
    }
    commands.join("; ")
}

/// Its name where a shell takes that as it is and no other share has it, else the beginning of its id.
fn argument(snapshot: &Snapshot, share: &Share) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-+@".contains(letter);
    let is_word = !share.name.is_empty() && !share.name.starts_with('-');
    let is_safe = is_word && share.name.chars().all(is_plain);
    match is_safe && is_alone(snapshot, share) {
        true => share.name.clone(),
        false => short_id(&share.content_id),
    }
}

/// Whether no other share has its name.
fn is_alone(snapshot: &Snapshot, share: &Share) -> bool {
    let mut others = snapshot.shares.iter();
    !others.any(|other| other.name == share.name && other.content_id != share.content_id)
}
