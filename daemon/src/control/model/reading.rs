//! How an event is read. A share is read as it comes, since there may be thousands of them: the derived code would
//! keep all fields of each until it has seen its type.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Event, Share};

/// The type of a share.
const SHARE: &str = "share";

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "v" && fields.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = map.next_value()?;
            let is_share = name == "type" && value == SHARE && fields.is_empty();
            if is_share {
                let fields = MapAccessDeserializer::new(map);
                return Share::deserialize(fields).map(Event::Share);
            }
            fields.insert(name, value);
        }
        // What the derived code does, which an event has under its own name.
        Event::deserialize(Value::Object(fields)).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_come_in_any_order_and_others_are_left_out() {
        let share =
            r#""content_id":"ab","name":"n","bytes":1,"verified_bytes":1,"state":"seeding""#;
        let read = |json: &str| serde_json::from_str::<Event>(json).unwrap();
        let expected = read(&format!(r#"{{"v":1,"type":"share",{share}}}"#));
        assert!(matches!(&expected, Event::Share(share) if share.name == "n"));
        for json in [
            format!(r#"{{"type":"share",{share}}}"#),
            format!(r#"{{{share},"type":"share","v":1}}"#),
            format!(r#"{{"new":{{"a":[1]}},"v":1,"type":"share",{share}}}"#),
            format!(r#"{{"v":2,"type":"share","new":[2],{share},"other":null}}"#),
        ] {
            assert_eq!(read(&json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for json in [
            "{}",
            "[]",
            "1",
            r#"{"v":1}"#,
            r#"{"type":"share"}"#,
            r#"{"type":"strange"}"#,
            r#"{"type":1}"#,
        ] {
            assert!(serde_json::from_str::<Event>(json).is_err(), "{json}");
        }
    }
}
