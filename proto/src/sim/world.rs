//! The swarm: time, who is connected to whom, and who comes and goes.
//!
//! Time goes from one wake to the next. What the engines do at one moment is put into effect after all
//! of them were asked, in the order of their numbers, so that it does not matter in which order or on
//! how many threads they were asked.

mod presence;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::bound::Bound;
use super::fluid::LinkId;
use super::gauge::{Gauge, LOOKS, Look, quarters};
use super::outcome::Outcome;
use super::peer::{Common, Effect, Letter, Peer, What, key};
use super::plan::{Change, Fault, Plan, Shape, Topology, nanos};
use super::queue::{Nanos, Wakes};
use super::streams::{Fate, Streams, Upload};
use crate::content::{ChunkSet, Content, HashList, Layout, ShareName};
use crate::id::SwarmId;
use crate::swarm::{Overlay, Site};
use crate::transfer::Reach;

/// Somebody who looks on, and says how the peers' work is done.
pub trait Observer {
    /// Does all jobs of one moment, each once. They do not depend on each other: the order, and on
    /// how many threads, makes no difference.
    fn work(&mut self, jobs: &mut [Job<'_>]) {
        jobs.iter_mut().for_each(Job::work);
    }

    /// A peer tells another something.
    fn told(&mut self, _at: Duration, _from: u32, _to: u32, _what: &dyn fmt::Debug) {}
}

impl Observer for () {}

/// What one peer has to do at one moment: to read what came, and to ask its engine what to do.
#[derive(Debug)]
pub struct Job<'a> {
    number: u32,
    peer: Box<Peer>,
    common: &'a Common,
    now: Nanos,
    effects: Vec<Effect>,
    /// Letters read.
    read: u64,
}

impl Job<'_> {
    /// Whose it is, counted as the members of the plan are.
    pub fn peer(&self) -> u32 {
        self.number
    }

    /// Does it.
    pub fn work(&mut self) {
        self.read += self.peer.step(self.common, self.now, &mut self.effects);
    }
}

/// Looks that are kept, and the shortest time between them: a run may take much longer than it takes
/// at best.
const MAX_LOOKS: usize = 4 * LOOKS as usize;
const MIN_LOOK_EVERY: Nanos = 1_000_000;

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Outcome {
    run_before(plan, &mut ())
}

/// The same while somebody looks on.
pub fn run_before(plan: &Plan, observer: &mut dyn Observer) -> Outcome {
    let mut world = World::new(plan, observer);
    world.run();
    world.outcome()
}

struct World<'a> {
    plan: &'a Plan,
    observer: &'a mut dyn Observer,
    bound: Bound,
    common: Arc<Common>,
    now: Nanos,
    streams: Streams,
    /// Those that are there.
    peers: Vec<Option<Box<Peer>>>,
    /// What those had that have gone.
    kept: Vec<ChunkSet>,
    sent: Vec<u64>,
    wakes: Wakes,
    /// Members as the tracker knows them, and who is whose neighbour.
    sites: BTreeMap<u32, Site>,
    overlay: Overlay<u32>,
    /// Neighbours of each peer, unless the tracker says them.
    fixed: Vec<Vec<u32>>,
    /// Pairs that are connected or soon will be, the lower number first.
    connected: BTreeSet<(u32, u32)>,
    up: Vec<LinkId>,
    down: Vec<LinkId>,
    relay: LinkId,
    /// Comings and goings, the latest first.
    timeline: Vec<(Nanos, u32, Change)>,
    gauge: Gauge,
    letters: u64,
    needed: usize,
    done: usize,
    rng: StdRng,
    next_look: Nanos,
    look_every: Nanos,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, observer: &'a mut dyn Observer) -> World<'a> {
        let bound = Bound::of(plan);
        let look_every = nanos(bound.limit()) / u64::from(LOOKS);
        let mut streams = Streams::new(plan.pieces);
        let up = plan
            .peers
            .iter()
            .map(|peer| streams.link(peer.up))
            .collect();
        let down = plan
            .peers
            .iter()
            .map(|peer| streams.link(peer.down))
            .collect();
        let relay = streams.link(plan.relay);
        let mut rng = StdRng::seed_from_u64(plan.seed);
        World {
            bound,
            common: Arc::new(common(plan)),
            now: 0,
            streams,
            peers: plan.peers.iter().map(|_| None).collect(),
            kept: plan
                .peers
                .iter()
                .map(|peer| peer.first_chunks(plan.chunks))
                .collect(),
            sent: vec![0; plan.peers.len()],
            wakes: Wakes::default(),
            sites: BTreeMap::new(),
            overlay: Overlay::new(match plan.topology {
                Topology::Tracker(shape) => shape,
                Topology::Random { .. } => Shape::default(),
            }),
            up,
            down,
            relay,
            timeline: presence::timeline(plan),
            fixed: presence::fixed(plan, &mut rng),
            connected: BTreeSet::new(),
            gauge: Gauge::new(plan.peers.len(), plan.chunks),
            letters: 0,
            needed: plan.peers.iter().filter(|peer| peer.is_needed()).count(),
            done: 0,
            rng,
            next_look: 0,
            look_every: look_every.max(MIN_LOOK_EVERY),
            plan,
            observer,
        }
    }

    fn run(&mut self) {
        let end = nanos(self.plan.patience);
        while self.done < self.needed || !self.timeline.is_empty() {
            let piece = self.streams.first();
            let wake = self.wakes.first().map(|(at, _)| at);
            let change = self.timeline.last().map(|(at, ..)| *at);
            let next = [piece, wake, change].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.look_until(next);
            self.now = self.now.max(next);
            self.gauge.events += 1;
            if change == Some(next) {
                self.change();
            } else if piece == Some(next) {
                self.send_pieces();
            } else {
                self.ask_engines();
            }
        }
        self.look();
    }

    fn send_pieces(&mut self) {
        while let Some(piece) = self.streams.poll(self.now) {
            let (from, to, upload) = (piece.from, piece.to, piece.upload);
            let is_last = piece.is_last;
            let sent = What::Sent {
                upload: upload.id,
                bytes: piece.bytes,
                is_last,
            };
            self.post(self.now, from, from, sent);
            let end = Some(upload.fate).filter(|fate| is_last && *fate != Fate::Silent);
            let (request, bytes) = (upload.request, piece.bytes);
            let arrives = self.now + nanos(self.plan.rtt_of(from, to)) / 2;
            self.post(
                arrives,
                from,
                to,
                What::Payload {
                    request,
                    bytes,
                    end,
                },
            );
            self.book(from, to, bytes);
        }
    }

    /// Counts payload.
    fn book(&mut self, from: u32, to: u32, bytes: u32) {
        let bytes = u64::from(bytes);
        self.gauge.payload += bytes;
        if self.plan.reach(from, to) == Some(Reach::Relayed) {
            self.gauge.relayed += bytes;
        }
        let member = &self.plan.peers[from as usize];
        if member.is_seed() && member.fault == Fault::None {
            self.gauge.seed_payload += bytes;
        }
        self.sent[from as usize] += bytes;
        let most = member
            .sends_at_most
            .map(|times| (times * self.plan.bytes() as f64) as u64);
        if most.is_some_and(|most| self.sent[from as usize] >= most) {
            self.go(from);
        }
    }

    fn ask_engines(&mut self) {
        let common = self.common.clone();
        let mut jobs = Vec::new();
        while let Some((_, number)) = self.wakes.first().filter(|(at, _)| *at <= self.now) {
            self.wakes.set(number, None);
            let peer = self.peers[number as usize].take();
            let (now, common) = (self.now, &*common);
            let job = |peer| Job {
                number,
                peer,
                common,
                now,
                effects: Vec::new(),
                read: 0,
            };
            jobs.extend(peer.map(job));
        }
        self.observer.work(&mut jobs);
        let mut effects = Vec::new();
        for job in jobs {
            self.gauge.letters += job.read;
            let wake = job.peer.wake(&common);
            self.peers[job.number as usize] = Some(job.peer);
            self.wake(job.number, wake);
            effects.push((job.number, job.effects));
        }
        let mut has_come = false;
        for (number, effects) in effects {
            for effect in effects {
                has_come |= matches!(effect, Effect::Has(..));
                self.put_into_effect(number, effect);
            }
        }
        if has_come {
            self.dismiss();
        }
    }

    /// Sets when a peer is woken: at the end of a tick.
    fn wake(&mut self, number: u32, at: Option<Nanos>) {
        let tick = nanos(self.plan.tick).max(1);
        let at = at.map(|at| at.max(self.now + 1).div_ceil(tick) * tick);
        self.wakes.set(number, at);
    }

    fn put_into_effect(&mut self, number: u32, effect: Effect) {
        match effect {
            Effect::Tell(to, what) => self.tell(number, to, what),
            Effect::TellAll(what) => {
                let peer = self.peers[number as usize].as_ref();
                let links = peer.into_iter().flat_map(|peer| peer.links.keys().copied());
                for to in links.collect::<Vec<u32>>() {
                    self.tell(number, to, what.clone());
                }
            }
            Effect::Later(after, what) => self.post(self.now + after, number, number, what),
            Effect::Serve(to, upload) => {
                self.note(0, number, to, upload.id.0);
                self.serve(number, to, upload);
            }
            Effect::Stop(to, upload) => drop(self.streams.stop(self.now, (number, to), upload)),
            Effect::StopAll(to) => self.streams.stop_all(self.now, (number, to)),
            Effect::Has(chunk, took) => {
                self.gauge.waits.add(took);
                self.has(number, chunk.value());
            }
            Effect::Wasted(bytes) => self.gauge.wasted += u64::from(bytes),
            Effect::Bans(other) => {
                let is_just = self.plan.peers[other as usize].fault != Fault::None;
                self.gauge.bans += 1;
                self.gauge.unjust += u64::from(!is_just);
            }
        }
    }

    fn tell(&mut self, from: u32, to: u32, what: What) {
        self.observer
            .told(Duration::from_nanos(self.now), from, to, &what);
        self.gauge.control += what.control_bytes();
        self.gauge.requests += u64::from(matches!(what, What::Ask { .. }));
        let (kind, which) = what.digest();
        self.note(kind, from, to, which);
        let at = self.now + nanos(self.plan.rtt_of(from, to)) / 2;
        self.post(at, from, to, what);
    }

    fn note(&mut self, what: u64, from: u32, to: u32, which: u64) {
        let pair = (u64::from(from) << 32) | u64::from(to);
        self.gauge.trace(&[self.now, (what << 56) ^ pair, which]);
    }

    /// Puts a letter on its way.
    fn post(&mut self, at: Nanos, from: u32, to: u32, what: What) {
        let Some(peer) = &mut self.peers[to as usize] else {
            return;
        };
        self.letters += 1;
        peer.deliver(Letter {
            at,
            number: self.letters,
            from,
            what,
        });
        if self.wakes.of(to).is_none_or(|wake| wake > at) {
            self.wake(to, Some(at));
        }
    }

    fn serve(&mut self, from: u32, to: u32, upload: Upload) {
        if self.peers[to as usize].is_none() {
            return;
        }
        let links = [self.up[from as usize], self.down[to as usize], self.relay];
        let count = if self.plan.reach(from, to) == Some(Reach::Relayed) {
            3
        } else {
            2
        };
        let path = (&links[..count], self.plan.cap(from, to));
        self.streams.serve(self.now, (from, to), upload, path);
    }

    fn has(&mut self, number: u32, chunk: u32) {
        self.gauge.trace(&[self.now, number.into(), chunk.into()]);
        let is_honest = self.plan.peers[number as usize].fault == Fault::None;
        self.gauge.copies[chunk as usize] += u32::from(is_honest);
        self.note_done(number as usize);
    }

    /// Notes when somebody who is to have everything does.
    fn note_done(&mut self, index: usize) {
        let have = self.peers[index]
            .as_ref()
            .and_then(|peer| peer.have(&self.common));
        let is_done = have.is_some_and(ChunkSet::is_full) && self.plan.peers[index].is_needed();
        if is_done && self.gauge.done[index].is_none() {
            self.gauge.done[index] = Some(self.now);
            self.done += 1;
        }
    }

    fn look_until(&mut self, next: Nanos) {
        while self.next_look < next {
            self.now = self.now.max(self.next_look);
            self.look();
            self.next_look += self.look_every;
        }
    }

    /// Looks half as often from now on, and forgets every second look.
    fn thin_out(&mut self) {
        let mut number = 0;
        self.gauge.looks.retain(|_| {
            number += 1;
            number % 2 == 1
        });
        self.look_every *= 2;
    }

    fn look(&mut self) {
        let all = f64::from(self.plan.chunks.max(1));
        let part = |index: usize| {
            let have = self.peers[index]
                .as_ref()
                .and_then(|peer| peer.have(&self.common));
            f64::from(have.unwrap_or(&self.kept[index]).count()) / all
        };
        let members = self.plan.peers.iter().enumerate();
        let needed = members.filter(|(_, member)| member.is_needed());
        let look = Look {
            at: Duration::from_nanos(self.now),
            progress: quarters(needed.map(|(index, _)| part(index)).collect()),
            leeches_up: self.use_of_uplinks(false),
            seeds_up: self.use_of_uplinks(true),
            copies: self.gauge.groups(),
        };
        self.gauge.looks.push(look);
        if self.gauge.looks.len() >= MAX_LOOKS {
            self.thin_out();
        }
    }

    fn use_of_uplinks(&self, seeds: bool) -> f64 {
        let there = self.plan.peers.iter().zip(&self.peers).enumerate();
        let there = there.filter(|(_, (member, peer))| {
            member.is_seed() == seeds && member.fault == Fault::None && peer.is_some()
        });
        let (mut used, mut all) = (0.0, 0.0);
        for (index, (member, _)) in there {
            used += self.streams.used(self.up[index]);
            all += member.up;
        }
        if all > 0.0 { used / all } else { 0.0 }
    }

    fn outcome(self) -> Outcome {
        let needed = self.plan.peers.iter().zip(&self.gauge.done);
        let needed = needed.filter(|(member, _)| member.is_needed());
        let gauge = &self.gauge;
        Outcome {
            bound: self.bound,
            finished: needed
                .map(|(_, done)| done.map(Duration::from_nanos))
                .collect(),
            bytes: self.plan.bytes(),
            chunks: self.plan.chunks,
            seed_bytes: gauge.seed_payload,
            payload_bytes: gauge.payload,
            wasted_bytes: gauge.wasted,
            relayed_bytes: gauge.relayed,
            control_bytes: gauge.control,
            requests: gauge.requests,
            bans: gauge.bans,
            unjust_bans: gauge.unjust,
            waits: gauge.waits.clone(),
            events: gauge.events,
            letters: gauge.letters,
            trace: gauge.trace_hash(),
            looks: self.gauge.looks,
        }
    }
}

fn common(plan: &Plan) -> Common {
    Common {
        origin: Instant::now(),
        swarm: SwarmId([1; 32]),
        content: Arc::new(content(plan)),
        keys: (0..)
            .zip(&plan.peers)
            .map(|(number, _)| key(number, plan.seed))
            .collect(),
    }
}

/// A share of which nothing is known but its layout.
fn content(plan: &Plan) -> Content {
    let hashes: HashList = [[7; 32]].into_iter().collect();
    let name = ShareName::parse("simulated").expect("a name without special characters");
    let file = Content::file(name, 1, hashes).expect("one hash for one chunk");
    Content {
        size: plan.bytes(),
        layout: Layout::even(plan.chunks, plan.chunk_bytes),
        ..file
    }
}
