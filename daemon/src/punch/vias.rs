//! The further sockets of the machines: each numbers its own, and they are opened when first needed.

use std::collections::BTreeMap;

use warren_net::{Socket, Via};
use warren_proto::nat::MAIN;

use super::owners::Owner;

/// Which number of which machine is which socket.
#[derive(Debug, Default)]
pub(super) struct Vias {
    by_number: BTreeMap<(Owner, u16), Via>,
    numbers: BTreeMap<Via, (Owner, u16)>,
}

impl Vias {
    /// The socket that a machine means, opened if this is its first use. `None` where no more can be
    /// opened: what was to be sent by it is lost, and the machine goes on with fewer.
    pub(super) fn open(&mut self, socket: &Socket, owner: Owner, number: u16) -> Option<Via> {
        if let Some(via) = self.of(owner, number) {
            return Some(via);
        }
        match socket.open_extra() {
            Ok(via) => {
                self.by_number.insert((owner, number), via);
                self.numbers.insert(via, (owner, number));
                Some(via)
            }
            Err(error) => {
                tracing::debug!(%error, "no further socket");
                None
            }
        }
    }

    /// The socket that a machine has used by this number.
    pub(super) fn of(&self, owner: Owner, number: u16) -> Option<Via> {
        match number {
            MAIN => Some(Via::MAIN),
            _ => self.by_number.get(&(owner, number)).copied(),
        }
    }

    /// By which number a machine knows a socket; `None` if it is another's.
    pub(super) fn number(&self, owner: Owner, via: Via) -> Option<u16> {
        if via == Via::MAIN {
            return Some(MAIN);
        }
        let (its, number) = self.numbers.get(&via)?;
        (*its == owner).then_some(*number)
    }

    /// Closes a socket, unless a route goes by it.
    pub(super) fn close(&mut self, socket: &Socket, owner: Owner, number: u16) {
        if let Some(via) = self.by_number.remove(&(owner, number)) {
            self.numbers.remove(&via);
            socket.close_extra(via);
        }
    }

    /// The machine is gone: closes its sockets, unless a route goes by them.
    pub(super) fn forget(&mut self, socket: &Socket, owner: Owner) {
        let its = self.by_number.range((owner, MAIN)..=(owner, u16::MAX));
        let its: Vec<u16> = its.map(|((_, number), _)| *number).collect();
        for number in its {
            self.close(socket, owner, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;

    const ONE: Owner = Owner::Attempt(1);
    const OTHER: Owner = Owner::Attempt(2);

    #[tokio::test]
    async fn numbers_mean_something_to_one_machine_only() {
        let (socket, mut vias) = (socket(), Vias::default());
        assert_eq!(vias.open(&socket, ONE, MAIN), Some(Via::MAIN));
        let first = vias.open(&socket, ONE, 7).unwrap();
        let second = vias.open(&socket, OTHER, 7).unwrap();
        assert_ne!(first, second);
        assert_eq!(vias.open(&socket, ONE, 7), Some(first));
        assert_eq!(vias.number(ONE, first), Some(7));
        assert_eq!(vias.number(ONE, second), None);
        assert_eq!(vias.number(OTHER, Via::MAIN), Some(MAIN));
    }

    #[tokio::test]
    async fn the_sockets_of_a_machine_that_is_gone_are_closed_and_no_others() {
        let (socket, mut vias) = (socket(), Vias::default());
        let its = [1, 2, u16::MAX].map(|number| vias.open(&socket, ONE, number).unwrap());
        let others = vias.open(&socket, OTHER, 1).unwrap();
        vias.close(&socket, ONE, 2);
        assert_eq!(socket.local_addr_of(its[1]), None);
        assert!(socket.local_addr_of(its[0]).is_some());
        vias.forget(&socket, ONE);
        assert!(its.iter().all(|via| socket.local_addr_of(*via).is_none()));
        assert_eq!(vias.of(OTHER, 1), Some(others));
        assert!(socket.local_addr_of(others).is_some());
    }

    #[tokio::test]
    async fn where_no_more_sockets_can_be_opened_there_is_none() {
        let (socket, mut vias) = (socket(), Vias::default());
        let opened = (1..=1_200).filter(|number| vias.open(&socket, ONE, *number).is_some());
        // Fewer where few files may be open.
        assert!((1..=1_140).contains(&opened.count()));
        vias.forget(&socket, ONE);
        assert!(vias.open(&socket, OTHER, 1).is_some());
    }

    fn socket() -> Arc<Socket> {
        let loopback = SocketAddr::new([127, 0, 0, 1].into(), 0);
        Socket::bind(loopback, 1472).unwrap()
    }
}
