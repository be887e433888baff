//! What a NAT does, from where servers saw our sockets come from.
//!
//! Whether a mapping depends on the destination shows when one socket asks several servers. Which
//! port a new mapping gets shows when several sockets ask one server, one after the other: few
//! samples of one direction and small steps are a *sequence*, others a *range*.

use std::net::SocketAddr;

use super::Observation;
use crate::nat::MAIN;
use crate::wire::NatMapping;

/// Ports at most this far apart, always in one direction, are handed out in sequence; what lies
/// between two of ours went to other flows behind the NAT. Five ports from a range of 1,024 look like
/// this one time in a million.
const MAX_GAP: u16 = 48;

/// The same where two ports are all there is: of any 4,000 two are that near in 4 of 1,000 cases.
const MAX_GAP_OF_TWO: u16 = 8;

/// Samples of fresh mappings from which on a sequence is certain.
const SURE_SEQUENCE: usize = 4;

/// Samples from which on a range is: what lies beyond the outermost is then a few percent.
const SURE_RANGE: usize = 16;

/// The largest range taken for a block (a carrier gives one to each customer), which begins at a
/// multiple of its size if the samples allow it.
const MAX_BLOCK: u32 = 4_096;

/// Ports below belong to services.
const LOWEST_PORT: u16 = 1024;

/// How one server saw one of our sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which socket; 0 is the one in question, others are thrown away afterwards.
    pub via: u16,
    /// The server.
    pub server: SocketAddr,
    /// Where it saw our packet come from.
    pub mapped: SocketAddr,
    /// Whether this answers the first request. One that was put again made its mapping later than its
    /// place among the samples says.
    pub is_first_try: bool,
}

impl From<Observation> for Sample {
    fn from(Observation { observer, mapped }: Observation) -> Sample {
        Sample {
            via: MAIN,
            server: observer,
            mapped,
            is_first_try: false,
        }
    }
}

/// What of a destination a mapping or a filter depends on (RFC 4787 §4.1 and §5), from lax to
/// strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// Nothing: one mapping serves all destinations.
    EndpointIndependent,
    /// Its IP address: all ports of one are served by one mapping.
    AddressDependent,
    /// Address and port.
    AddressAndPortDependent,
}

/// How far a verdict may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// It fits what was seen, and so would something else: there were few samples, or all from one
    /// IP address, to which an address-dependent mapping looks endpoint-independent.
    Low,
    /// Anything else would be a coincidence.
    High,
}

/// What the samples say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How the NAT maps.
    pub mapping: NatMapping,
    /// What a mapping depends on, if that showed.
    pub dependence: Option<Dependence>,
    /// How far to trust this.
    pub confidence: Confidence,
}

/// How a NAT maps that showed our sockets to servers like this, in the order they were asked in.
/// `observations` of peers show what a mapping depends on, and no more: what ports there are is not
/// theirs to say.
pub fn classify(samples: &[Sample], observations: &[Observation]) -> Verdict {
    let dependence = dependence(samples, observations);
    let (mapping, confidence) = match dependence {
        Seen::Nothing => (NatMapping::Unknown, Confidence::Low),
        Seen::Same { compares_addresses } => (
            NatMapping::EndpointIndependent,
            match compares_addresses {
                true => Confidence::High,
                false => Confidence::Low,
            },
        ),
        Seen::OtherAddress => (NatMapping::AddressDependent, Confidence::Low),
        Seen::Other(_) => pattern(samples, dependence.known()),
    };
    Verdict {
        mapping,
        dependence: dependence.known(),
        confidence,
    }
}

/// What the samples of the socket in question show about destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Same {
        compares_addresses: bool,
    },
    /// The outside IP address differs: there are several (RFC 4787 §4.1, arbitrary pooling).
    OtherAddress,
    Other(Option<Dependence>),
}

impl Seen {
    fn known(self) -> Option<Dependence> {
        match self {
            Seen::Same { .. } => Some(Dependence::EndpointIndependent),
            Seen::Other(dependence) => dependence,
            Seen::Nothing | Seen::OtherAddress => None,
        }
    }
}

fn dependence(samples: &[Sample], observations: &[Observation]) -> Seen {
    let observed: Vec<Sample> = observations.iter().copied().map(Sample::from).collect();
    let main = samples.iter().filter(|sample| sample.via == MAIN);
    let main: Vec<&Sample> = main.chain(&observed).collect();
    let [first, others @ ..] = &main[..] else {
        return Seen::Nothing;
    };
    if others.is_empty() {
        return Seen::Nothing;
    }
    if others.iter().all(|sample| sample.mapped == first.mapped) {
        let other_ip = |sample: &&&Sample| sample.server.ip() != first.server.ip();
        let compares_addresses = others.iter().any(|sample| other_ip(&sample));
        return Seen::Same { compares_addresses };
    }
    if others.iter().any(|s| s.mapped.ip() != first.mapped.ip()) {
        return Seen::OtherAddress;
    }
    let pairs = || main.iter().flat_map(|a| main.iter().map(move |b| (a, b)));
    let one_ip = |(a, b): &(&&Sample, &&Sample)| {
        a.server.ip() == b.server.ip() && a.server.port() != b.server.port()
    };
    if pairs().filter(one_ip).any(|(a, b)| a.mapped != b.mapped) {
        return Seen::Other(Some(Dependence::AddressAndPortDependent));
    }
    let compares_ports = pairs().any(|pair| one_ip(&pair));
    Seen::Other(compares_ports.then_some(Dependence::AddressDependent))
}

/// Which port a new mapping gets.
fn pattern(samples: &[Sample], dependence: Option<Dependence>) -> (NatMapping, Confidence) {
    let ports = |samples: &mut dyn Iterator<Item = &Sample>| {
        let mut ports: Vec<u16> = samples.map(|sample| sample.mapped.port()).collect();
        ports.dedup();
        ports
    };
    let mut fresh = samples.iter().filter(|s| s.via != MAIN && s.is_first_try);
    let fresh = ports(&mut fresh);
    let all = ports(&mut samples.iter());
    if fresh.len() >= SURE_SEQUENCE
        && let Some(step) = step(&fresh)
    {
        return (NatMapping::Sequential { step }, Confidence::High);
    }
    let few = fresh.len() < SURE_SEQUENCE;
    if let Some(step) = step(&all).filter(|step| few && is_believable(*step, &all, dependence)) {
        return (NatMapping::Sequential { step }, Confidence::Low);
    }
    let confidence = match all.len() >= SURE_RANGE {
        true => Confidence::High,
        false => Confidence::Low,
    };
    match all[..] {
        [] | [_] | [_, _] => (NatMapping::AddressDependent, Confidence::Low),
        _ => (range(&all), confidence),
    }
}

/// The distance that all distances between neighbours are multiples of, if they all go the same way
/// and never far.
fn step(ports: &[u16]) -> Option<i16> {
    let steps = ports.windows(2).map(|pair| {
        let is_near = pair[0].abs_diff(pair[1]) <= MAX_GAP;
        let step = i32::from(pair[1]) - i32::from(pair[0]);
        i16::try_from(step).ok().filter(|_| is_near)
    });
    let steps = steps.collect::<Option<Vec<i16>>>()?;
    let [first, others @ ..] = &steps[..] else {
        return None;
    };
    let is_one_way = others.iter().all(|step| step.signum() == first.signum());
    let nearest = steps.iter().fold(0, |step, next| common_step(step, *next));
    (is_one_way && nearest != 0).then_some(nearest * first.signum())
}

/// Whether so few ports may be called a sequence. The two that a mapping by address shows at first are
/// near each other by chance more often than they are in sequence.
fn is_believable(step: i16, ports: &[u16], dependence: Option<Dependence>) -> bool {
    let is_near = step.unsigned_abs() <= MAX_GAP_OF_TWO;
    ports.len() > 2 || is_near && dependence == Some(Dependence::AddressAndPortDependent)
}

/// The greatest common divisor, not negative.
fn common_step(a: i16, b: i16) -> i16 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// From where to where a NAT picks that picked these, at least two. Beyond the outermost samples lies
/// on average as much as between two of them; half more, since a port that is missed costs more than
/// one that is checked in vain.
fn range(ports: &[u16]) -> NatMapping {
    let low = ports.iter().copied().min().unwrap_or(LOWEST_PORT);
    let high = ports.iter().copied().max().unwrap_or(u16::MAX);
    let gaps = ports.len().saturating_sub(1).max(1);
    let margin = (3 * usize::from(high - low)).div_ceil(2 * gaps);
    let margin = u16::try_from(margin).unwrap_or(u16::MAX);
    let estimate = (
        low.saturating_sub(margin).max(LOWEST_PORT.min(low)),
        high.saturating_add(margin),
    );
    let block = block(low, high).filter(|block| size(*block) <= size(estimate));
    let (low, high) = block.unwrap_or(estimate);
    NatMapping::Random { low, high }
}

/// The smallest block that has both ports, begins at a multiple of its size, and is not large.
fn block(low: u16, high: u16) -> Option<(u16, u16)> {
    let differing = u32::from(low ^ high);
    let size = (differing + 1).next_power_of_two();
    let mask = (size - 1) as u16;
    (size <= MAX_BLOCK && low >= LOWEST_PORT).then_some((low & !mask, low | mask))
}

fn size((low, high): (u16, u16)) -> u32 {
    u32::from(high) - u32::from(low) + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

    const FIRST: &str = "192.0.2.1:59000";
    const OTHER_PORT: &str = "192.0.2.1:59001";
    const OTHER_IP: &str = "192.0.2.2:59000";

    #[test]
    fn one_port_for_all_is_endpoint_independent() {
        check(&[5000, 5000], NatMapping::EndpointIndependent);
        check(&[5000, 5000, 5000], NatMapping::EndpointIndependent);
    }

    #[test]
    fn only_two_addresses_make_that_certain() {
        let verdict = |servers: &[&str]| {
            let samples = servers.iter().map(|server| seen(0, server, 5000));
            classify(&samples.collect::<Vec<_>>(), &[])
        };
        let one = verdict(&[FIRST, OTHER_PORT]);
        let two = verdict(&[FIRST, OTHER_PORT, OTHER_IP]);
        assert_eq!(one.dependence, Some(EndpointIndependent));
        assert_eq!(two.dependence, Some(EndpointIndependent));
        assert_eq!(
            (one.confidence, two.confidence),
            (Confidence::Low, Confidence::High)
        );
    }

    #[test]
    fn what_a_mapping_depends_on_shows_in_two_ports_of_one_address_and_in_two_addresses() {
        let by = |ports: [u16; 3]| {
            let servers = [FIRST, OTHER_PORT, OTHER_IP];
            let samples = servers.iter().zip(ports).map(|(s, port)| seen(0, s, port));
            classify(&samples.collect::<Vec<_>>(), &[]).dependence
        };
        assert_eq!(by([5000, 5000, 40_000]), Some(AddressDependent));
        assert_eq!(by([5000, 40_000, 20_000]), Some(AddressAndPortDependent));
        assert_eq!(by([5000, 40_000, 5000]), Some(AddressAndPortDependent));
        let without_ports = [seen(0, FIRST, 5000), seen(0, OTHER_IP, 40_000)];
        assert_eq!(classify(&without_ports, &[]).dependence, None);
    }

    #[test]
    fn what_peers_have_seen_shows_dependence_and_no_ports() {
        let observation = |port: u16| Observation {
            observer: OTHER_IP.parse().unwrap(),
            mapped: ([203, 0, 113, 7], port).into(),
        };
        let main = [seen(0, FIRST, 5000), seen(0, OTHER_PORT, 5000)];
        let same = classify(&main, &[observation(5000)]);
        assert_eq!(same.mapping, NatMapping::EndpointIndependent);
        assert_eq!(same.confidence, Confidence::High);
        let other = classify(&main, &[observation(65_535)]);
        assert_eq!(other.mapping, NatMapping::AddressDependent);
        assert_eq!(other.dependence, Some(AddressDependent));
        let fresh = [20_100, 23_000, 21_000, 20_500, 22_000];
        let fresh = (1..).zip(fresh).map(|(via, port)| seen(via, FIRST, port));
        let samples: Vec<Sample> = main.into_iter().chain(fresh).collect();
        let NatMapping::Random { high, .. } = classify(&samples, &[observation(65_535)]).mapping
        else {
            panic!("ports of a range");
        };
        assert!(high < 30_000, "{high}");
    }

    #[test]
    fn ports_near_each_other_in_one_direction_are_sequential() {
        check(&[5000, 5001], NatMapping::Sequential { step: 1 });
        check(&[5000, 5002, 5008], NatMapping::Sequential { step: 2 });
        check(&[5000, 5002, 5005], NatMapping::Sequential { step: 1 });
        check(&[5000, 4999, 4996], NatMapping::Sequential { step: -1 });
    }

    #[test]
    fn the_fresh_samples_decide_and_make_it_certain() {
        let main = [seen(0, FIRST, 9000), seen(0, OTHER_PORT, 40_000)];
        let fresh = |ports: [u16; 4]| {
            let fresh = (1..).zip(ports).map(|(via, port)| seen(via, FIRST, port));
            classify(&main.into_iter().chain(fresh).collect::<Vec<_>>(), &[])
        };
        let verdict = fresh([5000, 5001, 5003, 5004]);
        assert_eq!(verdict.mapping, NatMapping::Sequential { step: 1 });
        assert_eq!(verdict.confidence, Confidence::High);
        let verdict = fresh([5000, 5001, 5000, 5004]);
        assert!(matches!(verdict.mapping, NatMapping::Random { .. }));
        assert_eq!(verdict.confidence, Confidence::Low);
    }

    #[test]
    fn a_sample_that_came_late_does_not_break_a_sequence() {
        let main = [seen(0, FIRST, 4000), seen(0, OTHER_PORT, 4001)];
        let mut samples = main.to_vec();
        let fresh = (1..).zip([5000, 5001, 5009, 5002, 5003]);
        samples.extend(fresh.map(|(via, port)| seen(via, FIRST, port)));
        samples[4].is_first_try = false;
        let verdict = classify(&samples, &[]);
        assert_eq!(verdict.mapping, NatMapping::Sequential { step: 1 });
    }

    #[test]
    fn two_ports_far_apart_show_no_more_than_dependence() {
        check(&[5000, 5009], NatMapping::AddressDependent);
        // By address only: both ports of the first server see the same one.
        let servers = [FIRST, OTHER_PORT, OTHER_IP];
        let samples = servers.into_iter().zip([5000, 5000, 5003]);
        let samples: Vec<Sample> = samples.map(|(s, port)| seen(0, s, port)).collect();
        assert_eq!(
            classify(&samples, &[]).mapping,
            NatMapping::AddressDependent
        );
        check(&[1024, 65535], NatMapping::AddressDependent);
    }

    #[test]
    fn outside_addresses_that_differ_show_no_pattern() {
        let mut samples = samples(&[5000, 5000]);
        samples[1].mapped = "198.51.100.1:5000".parse().unwrap();
        assert_eq!(
            classify(&samples, &[]).mapping,
            NatMapping::AddressDependent
        );
    }

    #[test]
    fn one_answer_shows_nothing() {
        check(&[], NatMapping::Unknown);
        check(&[5000], NatMapping::Unknown);
    }

    #[test]
    fn a_range_reaches_beyond_its_outermost_samples_and_a_block_begins_where_blocks_do() {
        let (low, high) = (1024, 65535);
        check(&[30000, 1024, 65535], NatMapping::Random { low, high });
        let (low, high) = (20_480, 21_503);
        let ports = [20_500, 21_480, 20_900, 21_300, 20_700];
        check(&ports, NatMapping::Random { low, high });
        // Across such a border there is only the estimate.
        let (low, high) = (40_000 - 750, 42_000 + 750);
        let ports = [40_000, 42_000, 41_000, 40_400, 41_700];
        check(&ports, NatMapping::Random { low, high });
    }

    proptest! {
        #[test]
        fn any_ports_are_classified(
            ports in proptest::collection::vec((any::<u16>(), 0..4u16, any::<bool>()), 0..40),
        ) {
            let samples: Vec<Sample> = ports
                .iter()
                .map(|(port, via, is_first_try)| Sample {
                    is_first_try: *is_first_try,
                    ..seen(*via, FIRST, *port)
                })
                .collect();
            if let NatMapping::Random { low, high } = classify(&samples, &[]).mapping {
                prop_assert!(ports.iter().all(|(port, ..)| (low..=high).contains(port)));
            }
        }

        /// 32 samples find the range of a NAT within a fifth, and a block exactly when they fill it.
        #[test]
        fn ranges_are_found(seed in any::<u64>(), size in 256..60_000u32, start in 1024..5000u16) {
            let mut rng = StdRng::seed_from_u64(seed);
            let end = start + u16::try_from(size).unwrap();
            let ports: Vec<u16> = (0..32).map(|_| rng.random_range(start..=end)).collect();
            let NatMapping::Random { low, high } = classify(&samples(&ports), &[]).mapping else {
                return Err(TestCaseError::reject("in sequence by chance"));
            };
            let found = f64::from(high - low) / f64::from(end - start);
            prop_assert!((0.7..1.4).contains(&found), "{low}..{high} of {start}..{end}");
        }
    }

    #[track_caller]
    fn check(ports: &[u16], expected: NatMapping) {
        assert_eq!(classify(&samples(ports), &[]).mapping, expected);
    }

    /// One socket asked one server after the other.
    fn samples(ports: &[u16]) -> Vec<Sample> {
        let servers = [FIRST, OTHER_PORT].into_iter().cycle();
        let samples = servers.zip(ports).map(|(s, port)| seen(0, s, *port));
        samples.collect()
    }

    fn seen(via: u16, server: &str, port: u16) -> Sample {
        Sample {
            via,
            server: server.parse().unwrap(),
            mapped: ([203, 0, 113, 7], port).into(),
            is_first_try: true,
        }
    }
}
