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

use lab::{Cell, Dials, cells};

#[test]
fn every_nat_does_what_its_name_says() {
    lab::selftest();
}

// A shares, B downloads. `A` or `B` dials when only that way the path is open today.
cells! {
    open_sites_meet: "open" and "open", either dials => "direct";
    an_open_site_is_reached_through_the_firewall_of_who_dials: "firewall4" and "open", A dials => "direct";
    an_open_site_is_reached_through_an_ipv6_firewall: "open" and "firewall6", B dials => "direct";
    an_open_site_is_reached_from_behind_a_nat: "port-restricted" and "open", A dials => "direct";
    an_open_site_is_downloaded_from_behind_a_nat: "open" and "port-restricted", B dials => "direct";
    an_open_site_is_reached_from_behind_a_nat_that_changes_ports: "port-changing" and "open", A dials => "direct";
    an_open_site_is_reached_from_behind_two_nats: "open" and "double-nat", B dials => "direct";
    a_full_cone_is_reached_from_anywhere: "full-cone" and "clash", B dials => "direct";
    hosts_of_one_network_meet_there: "port-restricted" and "same", either dials => "lan";
}

#[test]
fn a_slow_and_lossy_way_is_a_way() {
    Cell::new("open", "open")
        .with(&["--delay", "25", "--loss", "5", "--hops", "2,4"])
        .meets(Dials::Either, "direct");
}
