//! Values of arguments: read, or refused with an example of what is right.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use warren_daemon::control::codes::MAX_EXPIRES_S;
use warren_daemon::control::model::{LEAST_BITS_PER_S, MOST_DOWNLOADS};
use warren_daemon::memory::{DEFAULT_MIB, LEAST_MIB};
use warren_proto::{
    content::address::HostPort,
    id::{ParseIdError, TrackerPin},
};

/// Bits per second; `None` without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(Option<u64>);

impl Limit {
    /// As the daemon is told: 0 without a limit.
    pub(super) fn bits_per_s(self) -> u64 {
        self.0.unwrap_or(0)
    }
}

/// Of what is sent.
pub(super) fn limit_up(text: &str) -> Result<Limit, String> {
    limit(text, "send")
}

/// Of what is received.
pub(super) fn limit_down(text: &str) -> Result<Limit, String> {
    limit(text, "receive")
}

/// `verb` is what is limited.
fn limit(text: &str, verb: &str) -> Result<Limit, String> {
    let expected = "expected off or bits per second, for example 20M or 500k";
    match text.strip_prefix('-') {
        Some(rest) if rest.starts_with(|it: char| it.is_ascii_digit()) => {
            return Err(format!("no rate is negative; {expected}"));
        }
        // Another option, or a part of a word.
        Some(_) => return Err(expected.to_owned()),
        None if text.is_empty() => return Err(expected.to_owned()),
        None => (),
    }
    if text.trim_matches(['0', '.']).is_empty() {
        return Err(format!(
            "off is for no limit; to {verb} nothing: client pause SHARE"
        ));
    }
    match rate(text)? {
        Some(bits) if bits < LEAST_BITS_PER_S => Err(format!(
            "the least is {}k, which connections take that only stay open",
            LEAST_BITS_PER_S / 1000
        )),
        rate => Ok(Limit(rate)),
    }
}

/// Bits per second; `None` when nothing is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayRate(pub(crate) Option<u64>);

pub(super) fn relay_rate(text: &str) -> Result<RelayRate, String> {
    rate(text).map(RelayRate)
}

/// As [`warren_proto::swarm::parsed_rate`], with the number of bits for who writes bytes.
fn rate(text: &str) -> Result<Option<u64>, String> {
    let bits = warren_proto::swarm::parsed_rate;
    let plain = text.strip_suffix("/s").unwrap_or(text);
    let plain = plain.strip_suffix(['B', 'b']);
    match plain.and_then(|plain| bits(plain).ok().flatten()) {
        Some(number) => {
            let written = written_rate(number.saturating_mul(8));
            Err(format!(
                "rates are in bits per second, of which a byte has 8: {text} would be {written}"
            ))
        }
        None => bits(text),
    }
}

/// Bits per second as they are typed; 0 is no limit.
pub(crate) fn written_rate(bits_per_s: u64) -> String {
    let scaled = |unit: u64| bits_per_s.is_multiple_of(unit).then_some(bits_per_s / unit);
    match (bits_per_s, scaled(1_000_000), scaled(1_000)) {
        (0, ..) => "off".to_owned(),
        (_, Some(mega), _) => format!("{mega}M"),
        (_, None, Some(kilo)) => format!("{kilo}k"),
        (_, None, None) => bits_per_s.to_string(),
    }
}

/// A number and its unit; no code is good for less than a second or more than a week.
pub(super) fn code_time(text: &str) -> Result<Duration, String> {
    let expected = "expected a time from 1s to 7d, for example 90s, 10m, 2h";
    let seconds = time_s(text);
    let is_good = |seconds: &u64| (1..=u64::from(MAX_EXPIRES_S)).contains(seconds);
    let seconds = seconds.filter(is_good).ok_or(expected)?;
    Ok(Duration::from_secs(seconds))
}

/// Seconds of a number and its unit.
fn time_s(text: &str) -> Option<u64> {
    let unit_s = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(unit_s)
}

/// Longest time after which a share may end, in days: ten years.
const MOST_DAYS: u64 = 3650;

/// A number and its unit, from a second to [`MOST_DAYS`].
fn share_time(text: &str) -> Result<Duration, String> {
    let expected = format!("expected a time from 1s to {MOST_DAYS}d, for example 90s, 10m, 2h, 7d");
    let seconds = time_s(text).filter(|it| (1..=MOST_DAYS * 86_400).contains(it));
    seconds.map(Duration::from_secs).ok_or(expected)
}

/// After how long something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct After(Option<Duration>);

impl After {
    /// Whole seconds; `None` for never.
    pub(crate) fn seconds(self) -> Option<u64> {
        self.0.map(|time| time.as_secs())
    }
}

impl FromStr for After {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(After(None)),
            _ => share_time(text)
                .map(|time| After(Some(time)))
                .map_err(|expected| format!("{expected}, or never")),
        }
    }
}

/// How many downloads are let; 0 for any number.
pub(super) fn downloads(text: &str) -> Result<u32, String> {
    if text == "off" {
        return Ok(0);
    }
    let number = text.parse().ok();
    let number = number.filter(|number| (1..=MOST_DOWNLOADS).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {MOST_DOWNLOADS}, or off"))
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected ADDR:PORT, for example 0.0.0.0:4000 or [::]:4000";
    text.parse().map_err(|_| expected.to_owned())
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let expected = "expected whole seconds, for example 60";
    text.parse().map_err(|_| expected.to_owned())
}

pub(super) fn memory_mib(text: &str) -> Result<u32, String> {
    let expected = format!("expected MiB, at least {LEAST_MIB}, for example {DEFAULT_MIB}");
    let mib = text.parse().ok().filter(|mib| *mib >= LEAST_MIB);
    mib.ok_or(expected)
}

pub(super) fn daemon_number(text: &str) -> Result<u16, String> {
    let expected = "the number of the daemon, 0 to 65535, belongs here";
    text.parse().map_err(|_| expected.to_owned())
}

/// `host:port` or `host:port#KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackerArg {
    /// `host:port`.
    pub(crate) address: String,
    /// What the tracker's key must match, when given.
    pub(crate) pin: Option<TrackerPin>,
}

/// Why a tracker is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackerArgError {
    #[error("it is not host:port, such as tracker.example:59000 or [2001:db8::1]:59000")]
    Address,
    #[error(
        "its port is 0, at which nobody listens; the tracker prints the one it has, such as 59000"
    )]
    Port,
    #[error("its key is wrong: {0}")]
    Key(ParseIdError),
}

impl FromStr for TrackerArg {
    type Err = TrackerArgError;

    fn from_str(text: &str) -> Result<Self, TrackerArgError> {
        let (address, pin) = match text.trim().split_once('#') {
            Some((address, pin)) => (address, Some(pin)),
            None => (text.trim(), None),
        };
        let address: HostPort = address.parse().map_err(|_| TrackerArgError::Address)?;
        if address.port == 0 {
            return Err(TrackerArgError::Port);
        }
        let pin = pin
            .map(str::parse)
            .transpose()
            .map_err(TrackerArgError::Key)?;
        Ok(TrackerArg {
            address: address.to_string(),
            pin,
        })
    }
}
