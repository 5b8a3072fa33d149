//! What was found in a part: names and values, in order.

use crate::output::{Cell, FAINT, Table};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use std::io::{self, Write};

/// Names and what they stand for.
#[derive(Debug, Default)]
pub struct Facts(Vec<(&'static str, Fact)>);

/// One value, or a table of them.
#[derive(Debug)]
enum Fact {
    One(Value),
    Rows { names: Vec<&'static str>, rows: Vec<Vec<Value>> },
}

impl Facts {
    /// Adds a value.
    pub fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, Fact::One(value.into())));
    }

    /// Adds a table.
    pub fn table<const N: usize>(
        &mut self,
        name: &'static str,
        names: [&'static str; N],
        rows: impl IntoIterator<Item = [Value; N]>,
    ) {
        let rows = rows.into_iter().map(Vec::from).collect();
        self.0.push((name, Fact::Rows { names: names.into(), rows }));
    }

    /// Writes them as text: values, then tables.
    pub fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::bare();
        for (name, fact) in &self.0 {
            if let Fact::One(value) = fact {
                table.row([Cell::new(name.replace('_', " ")).style(FAINT), Cell::new(text(value))]);
            }
        }
        table.show(page)?;
        for (_, fact) in &self.0 {
            let Fact::Rows { names, rows } = fact else { continue };
            if rows.is_empty() {
                continue;
            }
            let mut table = Table::headed(names.iter().map(|name| name.to_uppercase()));
            for row in rows {
                let cell = |value: &Value| match value {
                    Value::Number(number) => Cell::number(number),
                    other => Cell::new(text(other)),
                };
                table.push(row.iter().map(cell).collect());
            }
            table.show(page)?;
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".into(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, fact) in &self.0 {
            map.serialize_entry(name, fact)?;
        }
        map.end()
    }
}

impl Serialize for Fact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (names, rows) = match self {
            Self::One(value) => return value.serialize(serializer),
            Self::Rows { names, rows } => (names, rows),
        };
        let mut list = serializer.serialize_seq(Some(rows.len()))?;
        for row in rows {
            list.serialize_element(&Row { names, row })?;
        }
        list.end()
    }
}

/// A row as an object.
struct Row<'r> {
    names: &'r [&'static str],
    row: &'r [Value],
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.names.iter().zip(self.row))
    }
}
