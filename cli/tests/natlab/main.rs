//! The programs behind NATs that are the kernel's own: each test is a cell of the matrix in
//! `scripts/natlab`, which builds the networks and runs a tracker and two daemons in them.
//!
//! Where the machine allows no such lab the tests say so on the terminal and pass; with
//! `NATLAB=required` they fail instead.
//!
//! Not here: what the NATs do, and how that is measured (`scripts/natlab --help`).

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

mod lab;
#[path = "../lab/namespaces.rs"]
mod namespaces;
mod record;
mod swarm;

use lab::{Cell, cells};
use swarm::Swarm;

#[test]
fn every_nat_does_what_its_name_says() {
    lab::selftest();
}

cells! {
    open_sites_meet: "open" and "open" => "direct";
    an_open_site_is_reached_through_an_ipv4_firewall: "firewall4" and "open" => "direct";
    an_open_site_is_reached_through_an_ipv6_firewall: "open" and "firewall6" => "direct";
    an_open_site_is_reached_from_behind_a_nat: "port-restricted" and "open" => "direct";
    an_open_site_is_reached_from_behind_a_nat_that_changes_ports: "port-changing" and "open" => "direct";
    an_open_site_is_reached_from_behind_two_nats: "open" and "double-nat" => "direct";
    a_full_cone_is_reached_from_anywhere: "full-cone" and "clash" => "direct";
    hosts_of_one_network_meet_there: "port-restricted" and "same" => "lan";
}

// What takes checks from both sides at once.
cells! {
    homes_meet: "port-restricted" and "port-restricted" => "direct";
    a_home_meets_one_whose_nat_changes_ports: "port-restricted" and "port-changing" => "direct";
    nats_that_change_ports_meet: "port-changing" and "port-changing" => "direct";
    a_home_meets_one_behind_two_nats: "double-nat" and "port-restricted" => "direct";
    two_nats_meet_one_that_changes_ports: "double-nat" and "port-changing" => "direct";
    two_nats_meet_two: "double-nat" and "double-nat" => "direct";
    filters_by_address_meet: "address-restricted" and "address-restricted" => "direct";
    a_filter_by_address_meets_one_by_port: "address-restricted" and "port-restricted" => "direct";
    a_full_cone_meets_two_nats: "full-cone" and "double-nat" => "direct";
    an_ipv4_firewall_meets_a_nat: "firewall4" and "port-restricted" => "direct";
    ipv4_firewalls_meet: "firewall4" and "firewall4" => "direct";
    ipv6_firewalls_meet: "firewall6" and "firewall6" => "direct";
    two_families_meet_by_that_which_has_no_nat: "dual-stack" and "dual-stack" with ["--delay", "25"] => "direct";
    two_families_meet_who_has_one: "dual-stack" and "firewall6" => "direct";
    an_open_site_meets_a_nat_that_unasked_packets_move: "open" and "clash" => "direct";
    a_nat_that_unasked_packets_move_meets_a_home: "clash" and "port-restricted" => "direct";
    a_nat_that_changes_ports_meets_one_that_unasked_packets_move: "port-changing" and "clash" => "direct";
    two_nats_meet_one_that_unasked_packets_move: "double-nat" and "clash" => "direct";
    two_nats_that_unasked_packets_move_meet: "clash" and "clash" => "direct";
    a_clash_is_avoided_when_the_peer_hears_first: "clash" and "port-restricted" with ["--delay", "25", "--skew", "300"] => "direct";
    a_clash_is_avoided_when_the_peer_hears_last: "clash" and "port-restricted" with ["--delay", "25", "--skew", "-300"] => "direct";
    two_clashes_are_avoided_when_one_hears_late: "clash" and "clash" with ["--delay", "25", "--skew", "300"] => "direct";
    two_clashes_are_avoided_when_the_other_hears_late: "clash" and "clash" with ["--delay", "25", "--skew", "-300"] => "direct";
    nats_meet_over_long_links: "double-nat" and "port-restricted" with ["--delay", "100", "--hops", "3,4"] => "direct";
    hosts_of_one_network_meet_there_though_its_nat_leads_back_in: "port-restricted" and "same-hairpin" => "lan";
}

// The handshakes with the tracker may lose too much to be by UDP at first.
#[test]
fn nats_meet_over_lossy_links() {
    Cell::new("port-restricted", "port-changing")
        .with(&["--delay", "25", "--loss", "20"])
        .comes_to_meet("checks");
}

// What takes guesses at ports. The relay carries what comes first.

#[test]
fn a_home_meets_a_nat_that_hands_out_ports_in_sequence() {
    Cell::new("symmetric-sequential", "port-restricted")
        .with(&["--delay", "25"])
        .comes_to_meet("prediction");
}

#[test]
fn a_home_meets_a_nat_that_picks_ports_at_random() {
    Cell::new("symmetric", "port-restricted")
        .with(&["--delay", "25"])
        .comes_to_meet("birthday");
}

#[test]
fn nats_that_hand_out_ports_in_sequence_meet() {
    Cell::new("symmetric-sequential", "symmetric-sequential")
        .with(&["--delay", "25"])
        .comes_to_meet("mutual-prediction");
}

// What no technique gets through.

#[test]
fn nats_that_pick_ports_at_random_talk_through_the_tracker() {
    Cell::new("symmetric", "symmetric").talks_through_the_tracker();
}

#[test]
fn where_no_udp_leaves_the_relay_is_reached_by_tcp() {
    Cell::new("udp-blocked", "port-restricted").talks_through_the_tracker();
}

#[test]
fn a_download_by_a_guessed_port_survives_the_reboot_of_a_router() {
    Cell::new("symmetric", "port-restricted").survives("reboot-b");
}

#[test]
fn a_download_survives_the_reboot_of_a_router() {
    Cell::new("port-restricted", "port-restricted").survives("reboot-a");
}

#[test]
fn a_download_survives_new_ports_outside() {
    Cell::new("port-restricted", "port-changing").survives("rebind-b");
}

#[test]
fn a_download_survives_a_source_that_takes_another_address() {
    Cell::new("port-restricted", "port-restricted").survives("move-a");
}

#[test]
fn a_download_goes_on_at_another_address() {
    Cell::new("open", "port-restricted").survives("move-b");
}

#[test]
fn a_download_survives_a_source_that_takes_another_uplink() {
    Cell::new("port-restricted", "port-restricted").survives("uplink-a");
}

#[test]
fn a_download_survives_another_uplink_of_who_downloads() {
    Cell::new("port-restricted", "port-restricted").survives("uplink-b");
}

#[test]
fn a_download_survives_that_its_source_sleeps() {
    Cell::new("port-restricted", "port-restricted").survives("sleep-a");
}

#[test]
fn a_download_survives_a_sleep() {
    Cell::new("port-restricted", "port-restricted").survives("sleep-b");
}

#[test]
fn a_download_that_the_relay_began_goes_on_directly() {
    Cell::new("symmetric", "port-restricted").leaves_the_relay();
}

#[test]
fn a_download_from_an_open_site_survives_the_reboot_of_a_router() {
    Cell::new("port-restricted", "open").survives("reboot-a");
}

#[test]
fn a_slow_and_lossy_way_is_a_way() {
    Cell::new("open", "open")
        .with(&["--delay", "25", "--loss", "5", "--hops", "2,4"])
        .comes_to_meet("checks");
}

// More than two.

#[test]
fn relays_carry_only_what_no_direct_peer_will_have() {
    // The seed and one leech meet everybody, one comes to by guessing, two nobody and not each other.
    let types = [
        "port-restricted",
        "open",
        "symmetric",
        "symmetric",
        "udp-blocked",
    ];
    let swarm = Swarm::of(&types).run(&["--size", "8192"]);
    let Some(swarm) = swarm else { return };
    swarm.is_complete();
    // Who is blocked gets all by relay, and the others next to nothing: a chunk or two to begin with.
    swarm.relays_at_most_percent(28.0, 2.0);
    swarm.gets_nothing_twice("udp-blocked");
}

#[test]
fn an_open_peer_relays_for_two_that_cannot_meet() {
    let options = [
        "--relay",
        "off",
        "--relay-for-swarm",
        "open=50M",
        "--alone",
        "--size",
        "2048",
    ];
    let swarm = Swarm::of(&["symmetric", "symmetric", "open"]).run(&options);
    let Some(swarm) = swarm else { return };
    swarm.is_complete();
    swarm.relayed_alone_by("peer");
}
