//! Shows what is set, who said so, and what could be.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Found, Kind, Origin, Setting, Settings};

/// Columns at which comments of a template are broken.
const TEMPLATE_COLUMNS: usize = 90;

/// What holds for one setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its name in a file.
    pub key: String,
    /// Its variable.
    pub variable: String,
    /// Its value as a file would have it; `null` when there is none.
    pub value: Value,
    /// Who said so.
    pub origin: Origin,
}

impl Shown {
    /// The same as an object of JSON: `key`, `value`, `from`, `variable`, and of a file `file` and
    /// `line`.
    pub fn to_json(&self) -> Value {
        let from = match &self.origin {
            Origin::Default => "default",
            Origin::File { .. } => "file",
            Origin::Variable(_) => "environment",
            Origin::CommandLine => "command-line",
        };
        let mut object = json!({
            "key": self.key,
            "value": self.value,
            "from": from,
            "variable": self.variable,
        });
        if let (Origin::File { path, line }, Some(fields)) = (&self.origin, object.as_object_mut())
        {
            fields.insert("file".into(), path.display().to_string().into());
            fields.insert("line".into(), (*line).into());
        }
        object
    }
}

/// One line for each, in columns.
pub fn table(shown: &[Shown]) -> String {
    let value = |it: &Shown| match &it.value {
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    };
    let keys = shown.iter().map(|it| it.key.len()).max().unwrap_or(0);
    let values = shown.iter().map(|it| value(it).chars().count());
    let values = values.max().unwrap_or(0);
    let mut text = String::new();
    for it in shown {
        // A string takes whatever is written into it.
        let _ = writeln!(
            text,
            "{:keys$}  {:values$}  {}",
            it.key,
            value(it),
            it.origin
        );
    }
    text
}

impl Settings {
    /// What holds, given what was found and what a parser makes of the command line.
    pub fn shown(&self, found: &Found, typed: &[(String, Vec<String>)]) -> Vec<Shown> {
        let shown = self.0.iter().map(|setting| {
            let given = found.get(&setting.id);
            let typed = typed.iter().find(|(id, _)| *id == setting.id);
            let (texts, origin) = match (typed, given) {
                (Some((_, texts)), _) => (texts.clone(), Origin::CommandLine),
                (None, Some(given)) => {
                    let texts = given.values.iter().map(|it| it.to_string_lossy().into());
                    (texts.collect(), given.origin.clone())
                }
                (None, None) => (setting.defaults.clone(), Origin::Default),
            };
            Shown {
                key: setting.key.clone(),
                variable: setting.variable.clone(),
                value: setting.value(&texts),
                origin,
            }
        });
        shown.collect()
    }

    /// A file in which each setting is there, and commented out.
    pub fn template(&self, first_lines: &str) -> String {
        let mut text = String::new();
        for line in first_lines.lines() {
            let _ = writeln!(text, "# {line}");
        }
        for setting in &self.0 {
            let help = setting.help.replace('\n', " ");
            let _ = writeln!(text);
            for line in wrapped(&help, TEMPLATE_COLUMNS) {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "#{} = {}", setting.key, setting.example());
        }
        text
    }
}

impl Setting {
    /// As a file would have it.
    fn value(&self, texts: &[String]) -> Value {
        let number = |text: &String| text.parse::<u64>().map_or_else(|_| json!(text), Into::into);
        match (self.kind, texts) {
            (Kind::List, texts) => texts.into(),
            (Kind::Flag, texts) => {
                let texts: Vec<_> = texts.iter().map(Into::into).collect();
                super::is_true(&texts).into()
            }
            (Kind::Number, [text, ..]) => number(text),
            (_, [text, ..]) => json!(text),
            (_, []) => Value::Null,
        }
    }

    /// Its default, or what stands for its value in help.
    fn example(&self) -> String {
        match (self.kind, self.defaults.as_slice()) {
            (Kind::Flag, _) => "true".to_owned(),
            (Kind::List, _) => json!([self.placeholder]).to_string(),
            (_, []) => json!(self.placeholder).to_string(),
            (_, defaults) => self.value(defaults).to_string(),
        }
    }
}

/// Broken at blanks.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut()
            && (line.is_empty() || line.len() + 1 + word.len() <= columns)
        {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
