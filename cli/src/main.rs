//! The program `client`; its commands arrive with the daemon.

fn main() {}
