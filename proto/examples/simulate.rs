//! Simulates a swarm by name and prints how it went; see `scripts/simulate`.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warren_proto::content::{ChunkSet, Content, Layout, Run, ShareName};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::sim::{Job, Observer, Outcome, Plan, SCENARIOS, Scenario, picture, run_before};
use warren_proto::transfer::engine::{Engine, Event};
use warren_proto::transfer::{self, Reach};

const USAGE: &str = "\
usage: simulate NAME [options]      runs one scenario
       simulate --list              names them
       simulate --record FILE.md    runs all and writes a table
options:
  --seed N           decides whatever is left to chance (1)
  --peers N          leeches, or peers beside the one measured in `cost`
  --chunks M         chunks of the share
  --chunk-bytes C    bytes of each
  --rtt-ms T         round trip of the mean pair
  --tick-us T        what happens to a peer within this time is told to it together
  --budget-mib B     what each engine may have outstanding
  --threads T        works on so many at a time, which changes no figure but the time it takes (1)
  --json             prints one line of JSON
  --course           prints how the swarm went over time
  --picture FILE     draws progress and copies as SVG
  --log FILE         writes what everybody says to everybody";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match command(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
#[derive(Clone, Default)]
struct Options {
    seed: Option<u64>,
    peers: Option<u32>,
    chunks: Option<u32>,
    chunk_bytes: Option<u32>,
    rtt_ms: Option<u64>,
    tick_us: Option<u64>,
    budget_mib: Option<u64>,
    threads: Option<usize>,
    json: bool,
    course: bool,
    picture: Option<String>,
    log: Option<String>,
}

fn command(words: &[String]) -> Result<(), String> {
    match words {
        [] => Err("no scenario".to_owned()),
        [flag] if flag == "--help" || flag == "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        [flag] if flag == "--list" => {
            for Scenario {
                name,
                about,
                leeches,
                chunks,
                ..
            } in SCENARIOS
            {
                println!("{name:12} N={leeches:<6} M={chunks:<5} {about}");
            }
            Ok(())
        }
        [flag, file, rest @ ..] if flag == "--record" => record(file, &options(rest)?),
        [name, rest @ ..] => one(name, &options(rest)?),
    }
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        match flag.as_str() {
            "--json" => options.json = true,
            "--course" => options.course = true,
            _ => {
                let value = words
                    .next()
                    .ok_or(format!("{flag} is nothing, or lacks a value"))?;
                set(&mut options, flag, value)?;
            }
        }
    }
    Ok(options)
}

fn set(options: &mut Options, flag: &str, value: &str) -> Result<(), String> {
    let number = || {
        value
            .parse::<u64>()
            .map_err(|_| format!("{flag} takes a number"))
    };
    let small = || {
        value
            .parse::<u32>()
            .map_err(|_| format!("{flag} takes a number"))
    };
    match flag {
        "--seed" => options.seed = Some(number()?),
        "--peers" => options.peers = Some(small()?),
        "--chunks" => options.chunks = Some(small()?),
        "--chunk-bytes" => options.chunk_bytes = Some(small()?),
        "--rtt-ms" => options.rtt_ms = Some(number()?),
        "--tick-us" => options.tick_us = Some(number()?),
        "--threads" => options.threads = Some(small()? as usize),
        "--budget-mib" => options.budget_mib = Some(number()?),
        "--picture" => options.picture = Some(value.to_owned()),
        "--log" => options.log = Some(value.to_owned()),
        _ => return Err(format!("there is no option {flag}")),
    }
    Ok(())
}

fn plan(scenario: &Scenario, options: &Options) -> Plan {
    let mut plan = scenario.plan(
        options.seed.unwrap_or(1),
        options.peers.unwrap_or(scenario.leeches),
        options.chunks.unwrap_or(scenario.chunks),
        options.chunk_bytes.unwrap_or(scenario.chunk_bytes),
    );
    if let Some(rtt_ms) = options.rtt_ms {
        plan.rtt = Duration::from_millis(rtt_ms);
    }
    if let Some(tick_us) = options.tick_us {
        plan.tick = Duration::from_micros(tick_us);
    }
    plan.budget = options.budget_mib.map(|mib| mib << 20);
    plan
}

fn one(name: &str, options: &Options) -> Result<(), String> {
    let scenario = Scenario::named(name).ok_or(format!("there is no scenario {name}"))?;
    let plan = plan(scenario, options);
    // Before anything else, so that no memory is used again.
    let idle = (name == "cost")
        .then(|| idle_peer_bytes(plan.chunks))
        .flatten();
    let measured = measure(&plan, options)?;
    let outcome = &measured.outcome;
    if let Some(file) = &options.picture {
        let title = format!(
            "{name}: {} leeches, {} chunks; {}",
            outcome.finished.len(),
            plan.chunks,
            scenario.about
        );
        std::fs::write(file, picture(&title, outcome))
            .map_err(|problem| format!("{file}: {problem}"))?;
    }
    let mut figures = outcome.figures();
    figures.push(("wall_s", format!("{:.1}", measured.wall.as_secs_f64())));
    figures.push(("cpu_s", format!("{:.1}", measured.cpu.as_secs_f64())));
    if name == "cost" {
        figures.push((
            "engine_core_percent",
            format!("{:.3}", 100.0 * core(&measured)),
        ));
        figures.push((
            "idle_peer_bytes",
            idle.map_or("null".to_owned(), |bytes| bytes.to_string()),
        ));
    }
    if options.json {
        println!("{}", json(name, &plan, &figures));
    } else {
        println!(
            "{name}: {}; {} leeches, {} chunks of {} bytes, seed {}",
            scenario.about,
            outcome.finished.len(),
            plan.chunks,
            plan.chunk_bytes,
            plan.seed
        );
        figures
            .iter()
            .for_each(|(figure, value)| println!("  {figure:18} {value:>12}"));
    }
    if options.course {
        print!("{}", outcome.course(40));
    }
    Ok(())
}

fn json(name: &str, plan: &Plan, figures: &[(&str, String)]) -> String {
    let mut line = format!(
        "{{\"name\":\"{name}\",\"seed\":{},\"peers\":{},\"chunks\":{}",
        plan.seed,
        plan.peers.len(),
        plan.chunks
    );
    for (figure, value) in figures {
        let quote = if *figure == "trace" { "\"" } else { "" };
        let _ = write!(line, ",\"{figure}\":{quote}{value}{quote}");
    }
    line + "}"
}

/// All scenarios as they are, as a table.
fn record(file: &str, options: &Options) -> Result<(), String> {
    let mut table = String::from(
        "| scenario | N | M | last / limit | mean / limit | seed / F | wasted % | control % | relayed % | unfinished | CPU s |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for scenario in SCENARIOS {
        let plan = plan(scenario, options);
        let Measured { outcome, cpu, .. } = measure(&plan, options)?;
        let figures = outcome.figures();
        let figure = |name: &str| {
            let found = figures.iter().find(|(other, _)| *other == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let columns = [
            "last_ratio",
            "mean_ratio",
            "seed_ratio",
            "wasted_percent",
            "control_percent",
            "relayed_percent",
            "unfinished",
        ];
        let values: Vec<&str> = columns.iter().map(|name| figure(name)).collect();
        let row = format!(
            "| {} | {} | {} | {} | {:.0} |",
            scenario.name,
            outcome.finished.len(),
            plan.chunks,
            values.join(" | "),
            cpu.as_secs_f64()
        );
        println!("{row}");
        table += &row;
        table.push('\n');
    }
    std::fs::write(file, table).map_err(|problem| format!("{file}: {problem}"))
}

/// A run and what it took.
struct Measured {
    outcome: Outcome,
    wall: Duration,
    cpu: Duration,
    /// Wall time in the peer that is measured.
    in_one: Duration,
}

/// Whose engine is measured: a leech.
const MEASURED: u32 = 1;

struct Watch {
    in_one: Duration,
    log: Option<BufWriter<File>>,
    threads: usize,
}

/// Fewer jobs than this for each thread are not worth one.
const JOBS_A_THREAD: usize = 64;

impl Observer for Watch {
    fn work(&mut self, jobs: &mut [Job<'_>]) {
        let threads = self.threads.min(jobs.len() / JOBS_A_THREAD).max(1);
        let parts = jobs.chunks_mut(jobs.len().div_ceil(threads).max(1));
        let in_one = std::thread::scope(|scope| {
            let mut parts: Vec<_> = parts.collect();
            let first = parts.pop();
            let others: Vec<_> = parts
                .into_iter()
                .map(|part| scope.spawn(|| work(part)))
                .collect();
            let mine = first.map_or(Duration::ZERO, work);
            let theirs = others.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            mine + theirs.sum::<Duration>()
        });
        self.in_one += in_one;
    }

    fn told(&mut self, at: Duration, from: u32, to: u32, what: &dyn Debug) {
        if let Some(log) = &mut self.log {
            // A log that cannot be written ends up short, which is seen.
            let _ = writeln!(log, "{:.6} {from} -> {to} {what:?}", at.as_secs_f64());
        }
    }
}

/// Does these jobs, and returns how long the peer took that is measured.
fn work(jobs: &mut [Job<'_>]) -> Duration {
    let mut in_one = Duration::ZERO;
    for job in jobs {
        let start = (job.peer() == MEASURED).then(Instant::now);
        job.work();
        in_one += start.map_or(Duration::ZERO, |start| start.elapsed());
    }
    in_one
}

fn measure(plan: &Plan, options: &Options) -> Result<Measured, String> {
    let create = |file: &String| File::create(file).map_err(|problem| format!("{file}: {problem}"));
    let log = options
        .log
        .as_ref()
        .map(create)
        .transpose()?
        .map(BufWriter::new);
    let threads = options.threads.unwrap_or(1);
    let mut watch = Watch {
        in_one: Duration::ZERO,
        log,
        threads,
    };
    let (start, cpu) = (Instant::now(), cpu_time());
    let outcome = run_before(plan, &mut watch);
    let (wall, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
    Ok(Measured {
        outcome,
        wall,
        cpu,
        in_one: watch.in_one,
    })
}

/// What this process has used of processors, where Linux tells: in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything; the 12th and 13th field after it
    // are the time in it and in the kernel for it.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// What part of a core one engine takes. Its time is wall time, so it is scaled by the part of the
/// time for which this process had a processor.
fn core(measured: &Measured) -> f64 {
    let last = measured.outcome.last().unwrap_or_default().as_secs_f64();
    let had = measured.cpu.as_secs_f64() / measured.wall.as_secs_f64().max(1e-9);
    measured.in_one.as_secs_f64() * had / last
}

/// What a peer that has everything and is asked for nothing adds to the memory of an engine that has
/// half of the share.
fn idle_peer_bytes(chunks: u32) -> Option<u64> {
    const PEERS: u32 = 2000;
    let name = ShareName::parse("measured").ok()?;
    let size = u64::from(chunks) * 512 * 1024;
    let hashes = (0..Layout::file(size).ok()?.hash_count())
        .map(|_| [7; 32])
        .collect();
    let content = Arc::new(Content::file(name, size, hashes).ok()?);
    let len = content.layout.chunk_count();
    let mut have = ChunkSet::empty(len);
    have.insert_runs(&[Run {
        start: 0,
        count: len / 2,
    }])
    .ok()?;
    let (now, swarm) = (Instant::now(), SwarmId([1; 32]));
    let mut engine = Engine::new(now, 1);
    engine
        .handle(
            now,
            Event::Opened {
                swarm,
                content,
                have,
            },
        )
        .ok()?;
    let mut tell = |event| engine.handle(now, Event::Share { swarm, event });
    tell(transfer::Event::Budget { bytes: 0 }).ok()?;
    let before = resident_bytes()?;
    for number in 0..PEERS {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let (peer, rtt, reach) = (PublicKey(key), Duration::from_millis(50), Reach::Direct);
        let runs = vec![Run {
            start: 0,
            count: len,
        }];
        tell(transfer::Event::PeerJoined { peer, rtt, reach }).ok()?;
        tell(transfer::Event::Has { peer, runs }).ok()?;
    }
    while engine.poll(now).is_some() {}
    Some(resident_bytes()?.saturating_sub(before) / u64::from(PEERS))
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}
