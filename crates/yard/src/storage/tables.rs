//! Records in tables, as JSON: what every array here is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// All tables of an array.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tables {
    tables: BTreeMap<String, Vec<Value>>,
    sequence: u64,
}

impl Tables {
    /// Records of a table.
    pub fn all(&self, table: &str) -> &[Value] {
        self.tables.get(table).map_or(&[], Vec::as_slice)
    }

    /// Records of a table, to change.
    pub fn all_mut(&mut self, table: &str) -> &mut Vec<Value> {
        self.tables.entry(table.to_owned()).or_default()
    }

    /// Adds a record.
    pub fn add(&mut self, table: &str, record: Value) {
        self.all_mut(table).push(record);
    }

    /// The first record with this text at this path.
    pub fn find(&self, table: &str, path: &str, wanted: &str) -> Option<&Value> {
        self.all(table).iter().find(|r| has(r, path, wanted))
    }

    /// The same, to change.
    pub fn find_mut(&mut self, table: &str, path: &str, wanted: &str) -> Option<&mut Value> {
        self.all_mut(table).iter_mut().find(|r| has(r, path, wanted))
    }

    /// Removes all records with this text at this path; says how many.
    pub fn remove(&mut self, table: &str, path: &str, wanted: &str) -> usize {
        let all = self.all_mut(table);
        let before = all.len();
        all.retain(|r| !has(r, path, wanted));
        before - all.len()
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// An identifier in the form of a UUID.
    pub fn uuid(&mut self) -> String {
        format!("00c0ffee-0000-4000-8000-{:012x}", self.next_number())
    }
}

/// All values at a path of names with dots between; lists are gone through.
pub fn at<'a>(record: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut now = vec![record];
    for name in path.split('.') {
        now = now
            .into_iter()
            .flat_map(|v| match v {
                Value::Array(all) => all.iter().collect::<Vec<_>>(),
                other => vec![other],
            })
            .filter_map(|v| v.get(name))
            .collect();
    }
    now
}

/// A value as the text that a query would name it by.
pub fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether there is this text at this path.
pub fn has(record: &Value, path: &str, wanted: &str) -> bool {
    at(record, path).into_iter().any(|v| match v {
        Value::Array(all) => all.iter().any(|v| word(v) == wanted),
        other => word(other) == wanted,
    })
}

/// The first text at a path.
pub fn text(record: &Value, path: &str) -> String {
    at(record, path).first().map(|v| word(v)).unwrap_or_default()
}

/// The first number at a path.
pub fn number(record: &Value, path: &str) -> Option<u64> {
    at(record, path).first().and_then(|v| v.as_u64())
}

/// The fields of a record that were asked for.
pub fn project(record: &Value, fields: &[&str]) -> Value {
    let mut out = Map::new();
    for field in fields {
        copy(record, &mut out, &field.split('.').collect::<Vec<_>>());
    }
    Value::Object(out)
}

fn copy(from: &Value, to: &mut Map<String, Value>, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(value) = from.get(first) else { return };
    if rest.is_empty() {
        to.insert((*first).to_owned(), value.clone());
        return;
    }
    match value {
        Value::Array(all) => {
            let made = to.entry((*first).to_owned()).or_insert_with(|| json!(vec![json!({}); all.len()]));
            for (item, slot) in all.iter().zip(made.as_array_mut().into_iter().flatten()) {
                if let Some(slot) = slot.as_object_mut() {
                    copy(item, slot, rest);
                }
            }
        }
        Value::Object(_) => {
            let made = to.entry((*first).to_owned()).or_insert_with(|| json!({}));
            if let Some(slot) = made.as_object_mut() {
                copy(value, slot, rest);
            }
        }
        _ => {}
    }
}

/// Lays changes over a record; objects are merged.
pub fn merge(record: &mut Value, changes: &Value) {
    match (record, changes) {
        (Value::Object(record), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(record.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (record, change) => *record = change.clone(),
    }
}

/// The first name in a body that is not known.
pub fn unknown<'a>(body: &'a Value, known: &[&str]) -> Option<&'a String> {
    body.as_object()?.keys().find(|k| !known.contains(&k.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_through_lists() {
        let record = json!({"name": "a", "rules": [{"clients": [{"match": "1"}, {"match": "2"}], "index": 1}], "space": {"size": 5}});
        assert!(has(&record, "rules.clients.match", "2") && !has(&record, "rules.clients.match", "3"));
        assert_eq!(
            project(&record, &["space.size", "rules.index"]),
            json!({"space": {"size": 5}, "rules": [{"index": 1}]})
        );
        let mut record = record;
        merge(&mut record, &json!({"space": {"used": 1}}));
        assert_eq!(record["space"], json!({"size": 5, "used": 1}));
    }
}
