//! Printing: a table for people, JSON, YAML and CSV for programs.

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use serde_json::Value;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Comma-separated values
    Csv,
}

/// Prints rows.
pub fn rows(format: Format, columns: &[(&str, &str)], rows: &[Value]) -> Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(rows)?),
        Format::Yaml => print!("{}", serde_yaml_ng::to_string(rows)?),
        Format::Csv => {
            println!("{}", columns.iter().map(|(t, _)| csv(t)).collect::<Vec<_>>().join(","));
            for row in rows {
                println!("{}", columns.iter().map(|(_, p)| csv(&cell(row, p))).collect::<Vec<_>>().join(","));
            }
        }
        Format::Table => {
            let mut table = table();
            table.set_header(columns.iter().map(|(t, _)| *t));
            for row in rows {
                table.add_row(columns.iter().map(|(_, p)| cell(row, p)));
            }
            println!("{table}");
            eprintln!("{} {}", rows.len(), if rows.len() == 1 { "row" } else { "rows" });
        }
    }
    Ok(())
}

/// Prints one object: key and value for people.
pub fn one(format: Format, row: &Value) -> Result<()> {
    match (format, row) {
        (Format::Json, _) => println!("{}", serde_json::to_string_pretty(row)?),
        (Format::Yaml, _) => print!("{}", serde_yaml_ng::to_string(row)?),
        (_, Value::Object(map)) => {
            let shown: Vec<(String, String)> =
                map.iter().filter(|(k, v)| !v.is_null() && *k != "links").map(|(k, v)| (k.clone(), text(v))).collect();
            if format == Format::Csv {
                println!(
                    "{}\n{}",
                    shown.iter().map(|(k, _)| csv(k)).collect::<Vec<_>>().join(","),
                    shown.iter().map(|(_, v)| csv(v)).collect::<Vec<_>>().join(",")
                );
                return Ok(());
            }
            let mut table = table();
            for (k, v) in shown {
                table.add_row([k, v]);
            }
            println!("{table}");
        }
        (_, other) => println!("{}", text(other)),
    }
    Ok(())
}

/// A table in the house style.
pub fn table() -> Table {
    let mut table = Table::new();
    // A line below the titles, none between rows: more fits on a screen.
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction(' '));
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn cell(row: &Value, pointer: &str) -> String {
    row.pointer(pointer).map_or_else(String::new, text)
}

fn text(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(a) if a.iter().all(|x| !x.is_object() && !x.is_array()) => {
            a.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Array(_) | Value::Object(_) => {
            serde_yaml_ng::to_string(v).map(|s| s.trim_end().to_owned()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

fn csv(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted() {
        assert_eq!(csv("a,b"), "\"a,b\"");
        assert_eq!(csv("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(csv("plain"), "plain");
    }
}
