//! Senders that have little to send, acknowledgements that come oddly, queues that mark.

use super::*;

#[test]
fn who_has_little_to_send_is_not_slow_afterwards() {
    let mut lab = Lab::new(Setting::new(100.0, 50.0, 0.0, 1.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(4 * SECOND);
    lab.flows[flow].ends[0].to_send = 0;
    lab.run(SECOND);
    for _ in 0..200 {
        // A tenth of the link, for twenty seconds.
        lab.write(flow, 125_000);
        lab.run(100 * MS);
    }
    lab.write(flow, u64::MAX);
    lab.run(200 * MS);
    let share = lab.share(flow, SECOND);
    assert!(share > 0.9, "{share:.3}");
}

#[test]
fn who_pauses_goes_on_as_before() {
    let mut lab = Lab::new(Setting::new(100.0, 50.0, 0.0, 1.0));
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(4 * SECOND);
    lab.flows[flow].ends[0].to_send = 0;
    // Longer than the least round trip is believed.
    lab.run(20 * SECOND);
    lab.there.forget();
    lab.write(flow, u64::MAX);
    lab.run(200 * MS);
    let share = lab.share(flow, SECOND);
    assert!(share > 0.85, "{share:.3}");
    assert_eq!(lab.there.dropped, 0);
}

#[test]
fn a_start_in_drops_ends_in_full_speed() {
    let mut lab = Lab::new(Setting::new(100.0, 50.0, 0.0, 1.0));
    let flow = lab.add(Kind::Ours, 0);
    lab.run(300 * MS);
    for _ in 0..100 {
        lab.write(flow, 20_000);
        lab.run(50 * MS);
    }
    lab.write(flow, u64::MAX);
    lab.run(SECOND);
    let share = lab.share(flow, SECOND);
    assert!(share > 0.9, "{share:.3}");
}

#[test]
fn acknowledgements_that_come_together_cost_little() {
    for (rtt_ms, gather_ms) in [(25, 20), (50, 20), (100, 50), (100, 100)] {
        let mut lab = Lab::new(Setting::new(50.0, f64::from(rtt_ms), 0.0, 1.0));
        lab.back.gather = gather_ms * MS;
        let flow = lab.add(Kind::Ours, u64::MAX);
        lab.run(3 * SECOND);
        lab.there.forget();
        let share = lab.share(flow, 6 * SECOND);
        let dropped = lab.there.dropped_part();
        println!("{rtt_ms} ms, together every {gather_ms} ms: {share:.3}, dropped {dropped:.4}");
        assert!(share > 0.8, "{rtt_ms} ms, {gather_ms} ms: {share:.3}");
        assert!(dropped < 0.02, "{rtt_ms} ms, {gather_ms} ms: {dropped:.4}");
    }
}

#[test]
fn delays_that_vary_cost_little() {
    for (rtt_ms, wobble_ms) in [(20, 5), (20, 20), (50, 20), (100, 100)] {
        let mut lab = Lab::new(Setting::new(25.0, f64::from(rtt_ms), 0.0, 1.0));
        lab.there.wobble = wobble_ms * MS / 2;
        lab.back.wobble = wobble_ms * MS / 2;
        let flow = lab.add(Kind::Ours, u64::MAX);
        lab.run(3 * SECOND);
        lab.there.forget();
        let share = lab.share(flow, 6 * SECOND);
        let dropped = lab.there.dropped_part();
        println!("{rtt_ms} ms, and up to {wobble_ms} ms: {share:.3}, dropped {dropped:.4}");
        assert!(share > 0.8, "{rtt_ms} ms, {wobble_ms} ms: {share:.3}");
        assert!(dropped < 0.02, "{rtt_ms} ms, {wobble_ms} ms: {dropped:.4}");
    }
}

#[test]
fn a_queue_that_marks_is_kept_from_dropping() {
    let mut lab = Lab::new(Setting::new(50.0, 50.0, 0.0, 2.0));
    lab.there.marks_from = 0.25 * lab.product();
    let flow = lab.add(Kind::Ours, u64::MAX);
    lab.run(5 * SECOND);
    lab.there.forget();
    let share = lab.share(flow, 10 * SECOND);
    assert!(share > 0.8, "{share:.3}");
    assert_eq!(lab.there.dropped, 0);
    let most = lab.there.most_queued / lab.product();
    assert!(most < 0.5, "{most:.2}");
}

#[test]
fn who_yields_leaves_the_link_and_takes_it_back() {
    let mut lab = Lab::new(Setting::new(25.0, 50.0, 0.0, 1.0));
    let ours = lab.add(Kind::Ours, u64::MAX);
    lab.run(4 * SECOND);
    lab.flows[ours].cues.set_yielding(true);
    let cubic = lab.add(Kind::Cubic, u64::MAX);
    lab.run(10 * SECOND);
    let shares = lab.shares(&[ours, cubic], 10 * SECOND);
    assert!(shares[0] < 0.2 && shares[1] > 0.7, "{shares:.2?}");
    lab.flows[cubic].ends[0].to_send = 0;
    lab.flows[ours].cues.set_yielding(false);
    lab.run(4 * SECOND);
    let share = lab.share(ours, 4 * SECOND);
    assert!(share > 0.85, "{share:.3}");
}
