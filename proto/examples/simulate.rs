//! Runs a named simulation and prints what came of it.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use warren_proto::sim::{Scenario, run};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let scenario = Scenario::named(&args[0]).unwrap();
    let (mut n, mut m, mut c) = scenario.size;
    let mut seed = 1;
    let mut it = args[1..].iter();
    while let Some(flag) = it.next() {
        let value: u64 = it.next().unwrap().parse().unwrap();
        match flag.as_str() {
            "--peers" => n = value as u32,
            "--chunks" => m = value as u32,
            "--chunk-bytes" => c = value as u32,
            "--seed" => seed = value,
            _ => panic!("{flag}"),
        }
    }
    let plan = scenario.plan(seed, n, m, c);
    let start = Instant::now();
    let out = run(&plan);
    let limit = out.bound.limit();
    let f = plan.bytes() as f64;
    let pct = |x: u64| 100.0 * x as f64 / out.payload_bytes as f64;
    println!(
        "{} N={n} M={m} c={c} seed={seed}: limit {:.3}s  last/limit {:?}  mean/limit {:.4}  seed/F {:.3}  wasted {:.2}%  control {:.3}%  requests/need {:.3} wall {:.1}s events {:?} trace {:016x}",
        plan.name,
        limit.as_secs_f64(),
        out.last().map(|t| t.as_secs_f64() / limit.as_secs_f64()),
        out.mean().as_secs_f64() / limit.as_secs_f64(),
        out.seed_bytes as f64 / f,
        pct(out.wasted_bytes),
        pct(out.control_bytes),
        out.requests as f64 / (f64::from(n) * f64::from(m)),
        start.elapsed().as_secs_f64(),
        out.events,
        out.trace
    );
    if std::env::var("LOOKS").is_ok() {
        for look in out.looks.iter().step_by(5) {
            println!(
                "{:8.3}s  {:.3} {:.3} {:.3} {:.3} {:.3}   leeches up {:.3}  seed up {:.3}",
                look.at.as_secs_f64(),
                look.progress[0],
                look.progress[1],
                look.progress[2],
                look.progress[3],
                look.progress[4],
                look.leeches_up,
                look.seeds_up
            );
        }
    }
}
