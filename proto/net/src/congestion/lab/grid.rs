//! What one transfer makes of a link, on many kinds of links.

use super::*;

/// A transfer, and what came of it.
struct Outcome {
    /// Content over what the link carries, headers included, from the first packet of the handshake on.
    share: f64,
    /// Part of the packets that the queue dropped.
    dropped: f64,
    /// The longest round trip over the shortest.
    late: f64,
}

fn transfer(kind: Kind, setting: Setting, mib: u64) -> Outcome {
    let mut lab = Lab::new(setting);
    let flow = lab.add(kind, mib * MIB);
    let seconds = lab.run_until(flow, mib * MIB, 1000 * SECOND);
    let bytes = lab.flows[flow].received() as f64;
    Outcome {
        share: bytes / seconds.unwrap_or(1e3) / lab.there.bytes_per_s,
        dropped: lab.there.dropped_part(),
        late: 1.0 + lab.there.most_queued / lab.product(),
    }
}

/// One line: without loss, and with more and more of it.
fn show(kind: Kind, mbit: f64, rtt_ms: f64, buffer: f64, mib: u64) {
    print!("{kind:?}, {mbit:4} Mbit/s, {rtt_ms:3} ms, buffer {buffer:4}:");
    for loss in [0.0, 0.1, 1.0, 3.0] {
        let it = transfer(kind, Setting::new(mbit, rtt_ms, loss, buffer), mib);
        print!(
            " | {:.3} {:5.2} % x{:.1}",
            it.share,
            100.0 * it.dropped,
            it.late
        );
    }
    println!();
}

#[test]
#[ignore = "two minutes: prints share of the link, dropped, longest round trip, for 0, 0.1, 1, 3 % loss"]
fn the_whole_grid() {
    for mbit in [10.0, 100.0, 200.0, 1000.0] {
        for rtt_ms in [5.0, 25.0, 100.0, 250.0] {
            for buffer in [0.25, 1.0, 4.0] {
                show(Kind::Ours, mbit, rtt_ms, buffer, 64);
            }
        }
    }
}

#[test]
#[ignore = "a minute: prints the same of quinn's controllers on some links"]
fn beside_what_quinn_has() {
    for kind in [Kind::Cubic, Kind::Bbr, Kind::Ours] {
        show(kind, 100.0, 100.0, 1.0, 64);
        show(kind, 200.0, 100.0, 1.0, 256);
        show(kind, 200.0, 25.0, 0.25, 64);
    }
}

#[test]
#[ignore = "a minute: prints the share of the link by seed, the least first"]
fn many_transfers_with_losses() {
    for (mbit, loss, mib) in [(100.0, 1.0, 64), (200.0, 1.0, 64)] {
        let share = |seed| {
            let setting = Setting {
                seed,
                ..Setting::new(mbit, 100.0, loss, 1.0)
            };
            transfer(Kind::Ours, setting, mib).share
        };
        let mut shares: Vec<f64> = (1..=40).map(share).collect();
        shares.sort_by(f64::total_cmp);
        println!("{mbit} Mbit/s, {loss} %: {shares:.2?}");
    }
}

#[test]
fn a_long_link_is_filled_whatever_it_loses() {
    for (mbit, mib, loss, floor) in [
        (100.0, 64, 0.0, 0.86),
        (100.0, 64, 1.0, 0.82),
        (200.0, 256, 1.0, 0.86),
    ] {
        check(mbit, 100.0, loss, 1.0, mib, floor);
    }
}

#[test]
fn short_and_shallow_links_are_filled_too() {
    for (mbit, rtt_ms, loss, buffer, floor) in [
        (10.0, 25.0, 1.0, 1.0, 0.85),
        (10.0, 100.0, 1.0, 0.25, 0.75),
        (100.0, 5.0, 1.0, 1.0, 0.85),
        (100.0, 25.0, 1.0, 0.25, 0.85),
        (200.0, 25.0, 0.0, 0.25, 0.85),
        (1000.0, 5.0, 1.0, 1.0, 0.80),
    ] {
        check(mbit, rtt_ms, loss, buffer, 32, floor);
    }
}

#[test]
fn what_a_short_queue_drops_is_little() {
    for rtt_ms in [25.0, 100.0] {
        let mut lab = Lab::new(Setting::new(50.0, rtt_ms, 0.0, 0.25));
        let flow = lab.add(Kind::Ours, u64::MAX);
        lab.run(5 * SECOND);
        lab.there.forget();
        let share = lab.share(flow, 10 * SECOND);
        let dropped = lab.there.dropped_part();
        assert!(
            share > 0.85 && dropped < 0.02,
            "{rtt_ms} ms: {share:.3}, {dropped:.4}"
        );
    }
}

#[test]
fn a_long_queue_is_left_short() {
    let mut lab = Lab::new(Setting::new(50.0, 100.0, 0.0, 4.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(5 * SECOND);
    let mut queued = 0.0;
    for _ in 0..1000 {
        lab.run(10 * MS);
        queued += lab.there.queued(lab.now) / lab.product() / 1e3;
    }
    assert!(queued < 0.1, "on average {queued:.3} of the path");
    assert!(lab.share(flow, 5 * SECOND) > 0.9);
}

#[track_caller]
fn check(mbit: f64, rtt_ms: f64, loss: f64, buffer: f64, mib: u64, floor: f64) {
    let setting = Setting::new(mbit, rtt_ms, loss, buffer);
    let share = transfer(Kind::Ours, setting, mib).share;
    assert!(share > floor, "{setting:?}: {share:.3}");
}
