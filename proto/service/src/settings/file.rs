//! Reads a settings file: TOML, whose every key is known and whose every value means something.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Given, Kind, Origin, Setting, Settings, SettingsError, nearest};

/// Far more than all settings take.
const FILE_BYTES: u64 = 1 << 20;

/// A file that was read and found right, all of it.
#[derive(Clone, Debug)]
pub struct File {
    /// Of no section, then of each one.
    entries: BTreeMap<Option<String>, BTreeMap<String, Given>>,
}

/// Tables in a file that hold settings for some: `[daemon.2]`.
#[derive(Clone, Copy, Debug)]
pub struct Sections {
    /// The word before the dot.
    pub word: &'static str,
    /// Whether something can be called so.
    pub is_name: fn(&str) -> bool,
    /// What the name is, for people.
    pub expected: &'static str,
}

impl File {
    /// Reads `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or anything in it is unknown or wrong.
    pub fn read(
        path: &Path,
        settings: &Settings,
        sections: Option<Sections>,
    ) -> Result<File, SettingsError> {
        let text = read_text(path).map_err(|source| SettingsError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let reader = Reader {
            path,
            text: &text,
            settings,
            sections,
        };
        reader.read()
    }

    /// Reads a file that need not be there.
    ///
    /// # Errors
    ///
    /// Like [`read`](Self::read), unless it is missing.
    pub fn read_if_there(
        path: &Path,
        settings: &Settings,
        sections: Option<Sections>,
    ) -> Result<Option<File>, SettingsError> {
        match File::read(path, settings, sections) {
            Err(SettingsError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// What it says of the argument `id`, in `section` or outside.
    pub(super) fn given(&self, id: &str, section: Option<&str>) -> Option<Given> {
        let of_section = section.and_then(|name| self.entries.get(&Some(name.to_owned())));
        let of_all = self.entries.get(&None);
        let found = of_section.and_then(|entries| entries.get(id));
        found
            .or_else(|| of_all.and_then(|entries| entries.get(id)))
            .cloned()
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES {
        let message = format!("it is larger than {} KiB", FILE_BYTES >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    settings: &'a Settings,
    sections: Option<Sections>,
}

impl Reader<'_> {
    fn read(&self) -> Result<File, SettingsError> {
        let table = DeTable::parse(self.text).map_err(|error| SettingsError::Syntax {
            origin: self.at(error.span().unwrap_or_default()),
            message: error.message().replace('\n', ", "),
        })?;
        let mut entries = BTreeMap::new();
        let (mut of_all, mut of_sections) = (BTreeMap::new(), Vec::new());
        for (key, value) in table.get_ref() {
            match (self.sections, value.get_ref()) {
                (Some(sections), DeValue::Table(table)) if key.get_ref() == sections.word => {
                    of_sections.push((sections, table));
                }
                _ => self.entry(&mut of_all, key.get_ref(), key.span(), value)?,
            }
        }
        entries.insert(None, of_all);
        for (sections, table) in of_sections {
            self.sections(&mut entries, sections, table)?;
        }
        Ok(File { entries })
    }

    fn sections(
        &self,
        entries: &mut BTreeMap<Option<String>, BTreeMap<String, Given>>,
        sections: Sections,
        table: &DeTable<'_>,
    ) -> Result<(), SettingsError> {
        for (name, value) in table {
            let wrong = |expected, found| SettingsError::WrongKind {
                origin: self.at(name.span()),
                key: format!("{}.{}", sections.word, name.get_ref()),
                expected,
                found,
            };
            let DeValue::Table(table) = value.get_ref() else {
                return Err(wrong("a table", kind_word(value.get_ref())));
            };
            if !(sections.is_name)(name.get_ref()) {
                return Err(wrong(sections.expected, "that"));
            }
            let mut of_section = BTreeMap::new();
            for (key, value) in table {
                self.entry(&mut of_section, key.get_ref(), key.span(), value)?;
            }
            entries.insert(Some(name.get_ref().to_string()), of_section);
        }
        Ok(())
    }

    fn entry(
        &self,
        entries: &mut BTreeMap<String, Given>,
        key: &str,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), SettingsError> {
        let Some(setting) = self.settings.by_key(key) else {
            let section = self.sections.map(|sections| sections.word).into_iter();
            return Err(SettingsError::Unknown {
                origin: self.at(span),
                key: key.to_owned(),
                nearest: self.settings.nearest(key).or_else(|| nearest(key, section)),
            });
        };
        let origin = self.at(value.span());
        let values = values_of(setting, value.get_ref(), &origin)?;
        for value in &values {
            setting.check(value, &origin)?;
        }
        entries.insert(setting.id.clone(), Given { values, origin });
        Ok(())
    }

    fn at(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
        }
    }
}

/// As the command line would have them.
fn values_of(
    setting: &Setting,
    value: &DeValue<'_>,
    origin: &Origin,
) -> Result<Vec<OsString>, SettingsError> {
    let one = |value: OsString| Ok(vec![value]);
    match (setting.kind, value) {
        (Kind::Flag, DeValue::Boolean(flag)) => one(flag.to_string().into()),
        (Kind::Number, DeValue::Integer(number)) => one(decimal(setting, number, origin)?),
        // A rate is as well said in plain bits.
        (Kind::Text, DeValue::Integer(number)) => one(decimal(setting, number, origin)?),
        (Kind::Text | Kind::List, DeValue::String(text)) => one(text.as_ref().into()),
        (Kind::Path, DeValue::String(text)) => one(path(setting, text, origin)?),
        (Kind::List, DeValue::Array(array)) => {
            let texts = array.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.as_ref().into()),
                other => Err(wrong_kind(setting, other, origin)),
            });
            texts.collect()
        }
        (_, other) => Err(wrong_kind(setting, other, origin)),
    }
}

fn decimal(
    setting: &Setting,
    number: &toml::de::DeInteger<'_>,
    origin: &Origin,
) -> Result<OsString, SettingsError> {
    let digits = number.as_str().replace('_', "");
    let parsed = i128::from_str_radix(&digits, number.radix());
    let parsed = parsed.map_err(|_| SettingsError::Invalid {
        origin: origin.clone(),
        key: setting.key.clone(),
        value: digits.clone(),
        message: "expected a smaller number".to_owned(),
    })?;
    Ok(parsed.to_string().into())
}

/// No shell has been there: `~/` is the home folder, and there is no folder to begin in.
fn path(setting: &Setting, text: &str, origin: &Origin) -> Result<OsString, SettingsError> {
    let invalid = |message: &str| SettingsError::Invalid {
        origin: origin.clone(),
        key: setting.key.clone(),
        value: text.to_owned(),
        message: message.to_owned(),
    };
    if let Some(rest) = text.strip_prefix("~/") {
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let home = home.ok_or_else(|| invalid("there is no home folder"))?;
        return Ok(home.join(rest).into());
    }
    match Path::new(text).is_absolute() {
        true => Ok(PathBuf::from(text).into()),
        false => Err(invalid("a path in a file begins with / or ~/")),
    }
}

fn wrong_kind(setting: &Setting, found: &DeValue<'_>, origin: &Origin) -> SettingsError {
    SettingsError::WrongKind {
        origin: origin.clone(),
        key: setting.key.clone(),
        expected: setting.kind.expected(),
        found: kind_word(found),
    }
}

fn kind_word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
