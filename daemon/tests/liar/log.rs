//! Remembers every warning that is logged in this process, and what daemons think of peers.

use std::{
    fmt::{Debug, Write},
    sync::{Mutex, Once},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Who says what is thought of peers, at DEBUG.
const JUDGE: &str = "warren_daemon::node::downloads";

/// Lines of one kind so far.
pub(crate) struct Lines(Mutex<String>);

static WARNINGS: Lines = Lines(Mutex::new(String::new()));
static THOUGHTS: Lines = Lines(Mutex::new(String::new()));

/// All warnings. Begins to remember, unless that has begun.
pub(crate) fn warnings() -> &'static Lines {
    install();
    &WARNINGS
}

/// What is thought of peers. Begins to remember, unless that has begun.
pub(crate) fn thoughts() -> &'static Lines {
    install();
    &THOUGHTS
}

fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
}

impl Lines {
    /// Whether a line names `name`.
    pub(crate) fn name(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains(name)
    }

    /// Whether one line names both.
    pub(crate) fn name_both(&self, name: &str, other: &str) -> bool {
        let lines = self.0.lock().unwrap();
        let mut lines = lines.lines();
        lines.any(|line| line.contains(name) && line.contains(other))
    }

    fn add(&self, line: &str) {
        let mut lines = self.0.lock().unwrap();
        lines.push_str(line);
        lines.push('\n');
    }
}

/// Takes events of WARN and above and those of [`JUDGE`], and no spans.
struct Recorder;

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
            || *metadata.level() == Level::DEBUG && metadata.target() == JUDGE
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().level()));
        event.record(&mut line);
        // Shown when the test fails.
        eprintln!("{}", line.0);
        match *event.metadata().level() {
            Level::DEBUG => THOUGHTS.add(&line.0),
            _ => WARNINGS.add(&line.0),
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a string does not fail.
        let _ = write!(self.0, " {field}={value:?}");
    }
}
