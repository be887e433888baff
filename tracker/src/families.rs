//! Where the tracker is by IPv4 and where by IPv6.
//!
//! A daemon reaches it by one family, and proves its address of the other one by STUN
//! ([`crate::proofs`]). For that it must know where to ask: at an address that was given for it, at the
//! one that goes into links, at one that is listened on, or, where that is every address, at the one that
//! this machine sends from. That may change while the tracker runs, so it is looked at each time.

use std::net::SocketAddr;

use warren_proto::swarm::may_prove_at;

use crate::alternate::{AltAddress, outward_ip};
use crate::config::{Config, DEFAULT_PORT};

/// What is known of the addresses by which daemons reach the tracker.
#[derive(Clone, Debug)]
pub(crate) struct Families {
    /// What the person has said, best first.
    given: Vec<SocketAddr>,
    /// Where daemons are served by UDP.
    bound: Vec<SocketAddr>,
}

impl Families {
    /// `bound` is where daemons are served by UDP.
    pub(crate) fn new(config: &Config, bound: &[SocketAddr]) -> Families {
        let port = bound.first().map_or(DEFAULT_PORT, SocketAddr::port);
        let also = config.also_at.iter();
        let also = also.map(|AltAddress { ip, port: at }| SocketAddr::new(*ip, at.unwrap_or(port)));
        let public = config.public.as_deref().and_then(|it| it.parse().ok());
        Families {
            given: also.chain(public).collect(),
            bound: bound.to_vec(),
        }
    }

    /// Where a daemon observed at `observed` can prove its address of the other family.
    pub(crate) fn other(&self, observed: SocketAddr) -> Option<SocketAddr> {
        let is_ipv4 = !observed.ip().to_canonical().is_ipv4();
        let bound = self.bound.iter();
        let bound = bound.filter_map(|bound| reached_at(*bound, is_ipv4));
        let mut all = self.given.iter().copied().chain(bound);
        all.find(|server| may_prove_at(observed, *server))
    }
}

/// By which address of this family what is bound to `bound` is reached.
fn reached_at(bound: SocketAddr, is_ipv4: bool) -> Option<SocketAddr> {
    match bound.ip().is_unspecified() {
        false => Some(bound),
        // `[::]` takes both families.
        true if bound.is_ipv6() || is_ipv4 => {
            outward_ip(is_ipv4).map(|ip| SocketAddr::new(ip, bound.port()))
        }
        true => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_by_one_family_is_told_of_the_other() {
        let bound = ["192.0.2.1:59000", "[2001:db8:5::1]:59000"];
        check(&[], None, &bound, "203.0.113.7:5000", Some(bound[1]));
        check(&[], None, &bound, "[2001:db8::7]:5000", Some(bound[0]));
        check(&[], None, &bound[..1], "203.0.113.7:5000", None);
        check(
            &[],
            None,
            &["127.0.0.1:1", "[::1]:1"],
            "127.0.0.1:5000",
            Some("[::1]:1"),
        );
    }

    #[test]
    fn what_the_person_says_comes_first() {
        let (bound, v4) = (["0.0.0.0:59000"], "203.0.113.7:5000");
        let given = Some("[2001:db8:5::9]:59000");
        check(&["2001:db8:5::9"], None, &bound, v4, given);
        let with_port = Some("[2001:db8:5::9]:7");
        check(&["[2001:db8:5::9]:7"], given, &bound, v4, with_port);
        check(&[], given, &bound, v4, given);
        check(&[], Some("tracker.example.org:1"), &bound, v4, None);
        // Of the family that the daemon came by.
        check(&["192.0.2.9"], None, &bound, v4, None);
    }

    #[test]
    fn no_private_address_is_told_to_who_is_elsewhere() {
        let bound = ["192.168.1.1:59000", "[2001:db8:5::1]:59000"];
        check(&[], None, &bound, "[2001:db8::7]:5000", None);
        check(&[], None, &bound, "127.0.0.1:5000", None);
    }

    #[track_caller]
    fn check(
        also: &[&str],
        public: Option<&str>,
        bound: &[&str],
        observed: &str,
        expected: Option<&str>,
    ) {
        let config = Config {
            also_at: also.iter().map(|text| text.parse().unwrap()).collect(),
            public: public.map(str::to_owned),
            ..Config::new("/".into())
        };
        let bound: Vec<SocketAddr> = bound.iter().map(|text| text.parse().unwrap()).collect();
        let found = Families::new(&config, &bound).other(observed.parse().unwrap());
        assert_eq!(
            found,
            expected.map(|text| text.parse().unwrap()),
            "{observed}"
        );
    }
}
