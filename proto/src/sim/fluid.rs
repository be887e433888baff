//! Rates of flows that share links max-min fairly, kept up to date as flows come and go.
//!
//! A link that cannot give all its flows what they could have elsewhere has a *level*: the rate it
//! gives to each that could take more. A flow has the least of its links' levels, and no more than its
//! own cap. When a flow starts or ends, the levels of its links are computed anew, then those of the
//! links of every flow whose rate that changed, and so on until nothing changes by more than
//! [`EPSILON`]; the fixed point is the max-min fair allocation (Bertsekas and Gallager, Data
//! Networks, section 6.5).

use std::collections::VecDeque;

/// A part by which a rate may be off.
const EPSILON: f64 = 1e-6;
/// Links computed anew for one change, at most for each link there is; a bound against rounding that
/// never ends.
const ROUNDS: usize = 50;

/// One flow.
pub(super) type FlowId = u32;
/// One link.
pub(super) type LinkId = u32;

#[derive(Debug)]
struct Link {
    capacity: f64,
    /// Infinite while the link gives everybody what they can take.
    level: f64,
    /// Sum of the rates of its flows.
    used: f64,
    flows: Vec<FlowId>,
    is_dirty: bool,
}

#[derive(Debug, Default)]
struct Flow {
    links: Vec<LinkId>,
    cap: f64,
    rate: f64,
}

/// Links and the flows on them. Rates are bytes per second.
#[derive(Debug, Default)]
pub(super) struct Fluid {
    links: Vec<Link>,
    flows: Vec<Flow>,
    free: Vec<FlowId>,
    dirty: VecDeque<LinkId>,
    demands: Vec<f64>,
}

impl Fluid {
    /// Adds a link.
    pub(super) fn link(&mut self, capacity: f64) -> LinkId {
        self.links.push(Link {
            capacity,
            level: f64::INFINITY,
            used: 0.0,
            flows: Vec::new(),
            is_dirty: false,
        });
        (self.links.len() - 1) as LinkId
    }

    /// Starts a flow over these links, no faster than `cap`. Then call [`Self::settle`].
    pub(super) fn start(&mut self, links: &[LinkId], cap: f64) -> FlowId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.flows.push(Flow::default());
            (self.flows.len() - 1) as FlowId
        });
        self.flows[id as usize] = Flow {
            links: links.to_vec(),
            cap,
            rate: 0.0,
        };
        for &link in links {
            self.links[link as usize].flows.push(id);
            self.soil(link);
        }
        id
    }

    /// Ends a flow. Then call [`Self::settle`].
    pub(super) fn end(&mut self, id: FlowId) {
        let flow = std::mem::take(&mut self.flows[id as usize]);
        for link in flow.links {
            let of = &mut self.links[link as usize];
            of.flows.retain(|other| *other != id);
            of.used -= flow.rate;
            if of.level.is_finite() {
                self.soil(link);
            }
        }
        self.free.push(id);
    }

    /// The rate of a flow.
    pub(super) fn rate(&self, id: FlowId) -> f64 {
        self.flows[id as usize].rate
    }

    /// What goes over a link.
    pub(super) fn used(&self, link: LinkId) -> f64 {
        self.links[link as usize].used
    }

    /// Computes what has to be, and tells for each flow whose rate changes its id and its rate
    /// before, possibly more than once.
    pub(super) fn settle(&mut self, mut told: impl FnMut(FlowId, f64)) {
        let mut left = ROUNDS * self.links.len();
        while let Some(link) = self.dirty.pop_front() {
            self.links[link as usize].is_dirty = false;
            if left == 0 {
                continue;
            }
            left -= 1;
            self.refill(link, &mut told);
        }
    }

    fn soil(&mut self, link: LinkId) {
        let of = &mut self.links[link as usize];
        if !std::mem::replace(&mut of.is_dirty, true) {
            self.dirty.push_back(link);
        }
    }

    /// Computes the level of a link, and the rates of its flows.
    fn refill(&mut self, id: LinkId, told: &mut impl FnMut(FlowId, f64)) {
        let before = self.links[id as usize].level;
        let level = self.level(id);
        self.links[id as usize].level = level;
        let mut used = 0.0;
        for at in 0..self.links[id as usize].flows.len() {
            let flow = self.links[id as usize].flows[at];
            let (old, elsewhere) = (self.rate(flow), self.demand(flow, id));
            let rate = elsewhere.min(level);
            used += rate;
            if differ(old, rate) {
                told(flow, old);
                self.flows[flow as usize].rate = rate;
                self.spread(flow, id, rate - old);
            } else {
                used += old - rate;
            }
            if differ(before, level) {
                self.pass_on(flow, id, before, level);
            }
        }
        self.links[id as usize].used = used;
    }

    /// Books a changed rate at the other links of a flow.
    fn spread(&mut self, flow: FlowId, but: LinkId, change: f64) {
        for at in 0..self.flows[flow as usize].links.len() {
            let link = self.flows[flow as usize].links[at];
            if link == but {
                continue;
            }
            let of = &mut self.links[link as usize];
            of.used += change;
            if of.level.is_infinite() && of.used > of.capacity * (1.0 + EPSILON) {
                self.soil(link);
            }
        }
    }

    /// The level of one link of a flow has changed: those links have to be computed anew that
    /// divide what the flow leaves.
    fn pass_on(&mut self, flow: FlowId, from: LinkId, before: f64, level: f64) {
        for at in 0..self.flows[flow as usize].links.len() {
            let link = self.flows[flow as usize].links[at];
            let of = &self.links[link as usize];
            if link != from
                && of.level.is_finite()
                && before.min(level) < of.level * (1.0 + EPSILON)
            {
                self.soil(link);
            }
        }
    }

    /// What a flow could have if it were not for one link.
    fn demand(&self, flow: FlowId, but: LinkId) -> f64 {
        let flow = &self.flows[flow as usize];
        let others = flow.links.iter().filter(|link| **link != but);
        others.fold(flow.cap, |least, link| {
            least.min(self.links[*link as usize].level)
        })
    }

    fn level(&mut self, id: LinkId) -> f64 {
        let mut demands = std::mem::take(&mut self.demands);
        demands.clear();
        let link = &self.links[id as usize];
        demands.extend(link.flows.iter().map(|flow| self.demand(*flow, id)));
        let level = fill(link.capacity, &mut demands);
        self.demands = demands;
        level
    }
}

/// The rate for all that want more, when each gets what it wants or that; infinite when all get what
/// they want.
fn fill(capacity: f64, demands: &mut [f64]) -> f64 {
    demands.sort_unstable_by(f64::total_cmp);
    let (mut left, mut count) = (capacity, demands.len());
    for demand in demands {
        let part = left / count as f64;
        if *demand > part {
            return part;
        }
        left -= *demand;
        count -= 1;
    }
    f64::INFINITY
}

fn differ(a: f64, b: f64) -> bool {
    a != b && (a.is_infinite() || b.is_infinite() || (a - b).abs() > EPSILON * a.max(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_one_cannot_take_the_others_get() {
        let mut fluid = Fluid::default();
        let up = fluid.link(10.0);
        let downs = [1.0, 100.0, 100.0].map(|capacity| fluid.link(capacity));
        let flows = downs.map(|down| fluid.start(&[up, down], f64::INFINITY));
        fluid.settle(|_, _| ());
        assert_eq!(flows.map(|flow| fluid.rate(flow)), [1.0, 4.5, 4.5]);
        fluid.end(flows[2]);
        fluid.settle(|_, _| ());
        assert_eq!(
            [flows[0], flows[1]].map(|flow| fluid.rate(flow)),
            [1.0, 9.0]
        );
    }

    proptest! {
        #[test]
        fn rates_are_max_min_fair_after_any_change(
            capacities in prop::collection::vec(prop_oneof![Just(1.0), Just(4.0), 0.5..50.0f64], 2..12),
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<[prop::sample::Index; 3]>(),
                prop_oneof![Just(f64::INFINITY), 0.1..5.0f64], any::<bool>()), 1..60),
        ) {
            let mut fluid = Fluid::default();
            let links: Vec<LinkId> = capacities.iter().map(|capacity| fluid.link(*capacity)).collect();
            let mut flows: Vec<(FlowId, Vec<LinkId>, f64)> = Vec::new();
            for (which, path, cap, ends) in steps {
                if ends && !flows.is_empty() {
                    fluid.end(flows.swap_remove(which.index(flows.len())).0);
                } else {
                    let mut path: Vec<LinkId> = path.iter().map(|at| *at.get(&links)).collect();
                    path.sort_unstable();
                    path.dedup();
                    flows.push((fluid.start(&path, cap), path, cap));
                }
                fluid.settle(|_, _| ());
                for (rate, (flow, ..)) in reference(&capacities, &flows).into_iter().zip(&flows) {
                    let found = fluid.rate(*flow);
                    prop_assert!((found - rate).abs() <= 1e-3 * rate, "{found} instead of {rate}");
                }
                for (link, capacity) in links.iter().zip(&capacities) {
                    let through = flows.iter().filter(|(_, path, _)| path.contains(link));
                    let sum: f64 = through.map(|(flow, ..)| fluid.rate(*flow)).sum();
                    prop_assert!((fluid.used(*link) - sum).abs() <= 1e-6 * capacity);
                }
            }
        }
    }

    /// All rates grow together; who meets a full link or its cap stops growing.
    fn reference(capacities: &[f64], flows: &[(FlowId, Vec<LinkId>, f64)]) -> Vec<f64> {
        let mut rates = vec![0.0; flows.len()];
        let mut grows = vec![true; flows.len()];
        while grows.contains(&true) {
            let left = |link: usize| {
                let through = |at: &usize| flows[*at].1.contains(&(link as LinkId));
                let used: f64 = (0..flows.len()).filter(through).map(|at| rates[at]).sum();
                let growing = (0..flows.len())
                    .filter(through)
                    .filter(|at| grows[*at])
                    .count();
                (capacities[link] - used, growing)
            };
            let steps = (0..capacities.len())
                .map(left)
                .filter(|(_, growing)| *growing > 0);
            let step = steps
                .map(|(left, growing)| left / growing as f64)
                .fold(f64::INFINITY, f64::min);
            let growing = (0..flows.len()).filter(|at| grows[*at]);
            let step = growing
                .map(|at| flows[at].2 - rates[at])
                .fold(step, f64::min);
            (0..flows.len())
                .filter(|at| grows[*at])
                .for_each(|at| rates[at] += step);
            let full: Vec<bool> = (0..capacities.len())
                .map(|link| {
                    let through =
                        (0..flows.len()).filter(|at| flows[*at].1.contains(&(link as LinkId)));
                    through.map(|at| rates[at]).sum::<f64>() >= capacities[link] - 1e-9
                })
                .collect();
            for at in 0..flows.len() {
                let is_held = flows[at].1.iter().any(|link| full[*link as usize]);
                grows[at] &= !is_held && rates[at] < flows[at].2 - 1e-9;
            }
        }
        rates
    }
}
