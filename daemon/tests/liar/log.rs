//! Remembers every warning that is logged in this process.

use std::{
    fmt::{Debug, Write},
    sync::{Mutex, Once},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// All warnings so far.
pub(crate) struct Warnings(Mutex<String>);

static WARNINGS: Warnings = Warnings(Mutex::new(String::new()));

/// Begins to remember, unless that has begun.
pub(crate) fn warnings() -> &'static Warnings {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
    &WARNINGS
}

impl Warnings {
    /// Whether a warning names `name`.
    pub(crate) fn name(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains(name)
    }
}

/// Takes events of WARN and above, and no spans.
struct Recorder;

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
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
        let mut warnings = WARNINGS.0.lock().unwrap();
        warnings.push_str(&line.0);
        warnings.push('\n');
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
