//! Paths that change under a transfer.

use super::*;

#[test]
fn a_link_that_becomes_slower_and_faster_is_followed() {
    for buffer in [1.0, 4.0] {
        let mut lab = Lab::new(Setting::new(60.0, 100.0, 0.0, buffer));
        let flow = lab.add(Kind::Ours, u64::MAX);
        lab.run(5 * SECOND);
        lab.there.set_mbit(lab.now, 15.0);
        lab.run(4 * SECOND);
        let queued_ms = 1e3 * lab.there.queued(lab.now) / lab.there.bytes_per_s;
        assert!(queued_ms < 60.0, "buffer {buffer}: {queued_ms:.0} ms");
        let share = lab.share(flow, 4 * SECOND);
        assert!(share > 0.85, "buffer {buffer}: {share:.3}");
        lab.there.set_mbit(lab.now, 60.0);
        lab.run(5 * SECOND);
        let share = lab.share(flow, 4 * SECOND);
        assert!(share > 0.85, "buffer {buffer}: {share:.3}");
    }
}

#[test]
fn a_path_that_becomes_longer_and_shorter_is_followed() {
    let mut lab = Lab::new(Setting::new(20.0, 50.0, 0.0, 2.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(5 * SECOND);
    for (rtt_ms, floor) in [(150.0, 0.5), (50.0, 0.85)] {
        lab.set_rtt_ms(rtt_ms);
        let meanwhile = lab.share(flow, 14 * SECOND);
        assert!(meanwhile > floor, "{rtt_ms} ms: {meanwhile:.3} meanwhile");
        let share = lab.share(flow, 6 * SECOND);
        assert!(share > 0.85, "{rtt_ms} ms: {share:.3}");
    }
}

#[test]
fn another_path_is_learnt_anew() {
    let mut lab = Lab::new(Setting::new(50.0, 0.5, 0.0, 100.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(SECOND);
    assert!(lab.is_cubic(flow));
    // Off to where it is far and losses are many.
    lab.set_rtt_ms(100.0);
    (lab.there.loss, lab.back.loss) = (0.01, 0.01);
    lab.flows[flow].cues.take_detour(lab.now);
    lab.run(3 * SECOND);
    assert!(!lab.is_cubic(flow));
    let share = lab.share(flow, 5 * SECOND);
    assert!(share > 0.8, "{share:.3}");
    // And home again.
    lab.set_rtt_ms(0.5);
    (lab.there.loss, lab.back.loss) = (0.0, 0.0);
    lab.flows[flow].cues.take_detour(lab.now);
    lab.run(2 * SECOND);
    assert!(lab.is_cubic(flow));
    let share = lab.share(flow, SECOND);
    assert!(share > 0.9, "{share:.3}");
}

#[test]
fn a_short_path_that_becomes_long_unsaid_is_found_out() {
    let mut lab = Lab::new(Setting::new(10.0, 0.5, 0.0, 100.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(SECOND);
    assert!(lab.is_cubic(flow));
    lab.set_rtt_ms(50.0);
    lab.run(40 * SECOND);
    assert!(!lab.is_cubic(flow));
}

#[test]
fn a_queue_does_not_make_a_short_path_long() {
    // It holds 50 ms.
    let mut lab = Lab::new(Setting::new(20.0, 0.5, 0.0, 100.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(5 * SECOND);
    for _ in 0..6 {
        let share = lab.share(flow, 7 * SECOND);
        assert!(lab.is_cubic(flow));
        assert!(share > 0.9, "{share:.3}");
    }
}

#[test]
fn a_path_that_was_dead_for_long_begins_small_and_comes_back() {
    let mut lab = Lab::new(Setting::new(50.0, 50.0, 0.0, 1.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(5 * SECOND);
    lab.there.is_cut = true;
    lab.run(5 * SECOND);
    lab.there.is_cut = false;
    let mut least = u64::MAX;
    for _ in 0..500 {
        lab.run(10 * MS);
        least = least.min(lab.window(flow));
    }
    // RFC 9002 §7.6.2, in packets of at most 1,452 bytes.
    assert!(least <= 2 * 1_452, "{least}");
    let share = lab.share(flow, 5 * SECOND);
    assert!(share > 0.85, "{share:.3}");
}
