//! Columns.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::style::Style;

/// A table with these headings; as wide as the terminal, where there is one.
pub(in crate::cli) fn render(
    headings: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    style: Style,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()) {
        table.set_width(width);
    }
    table.set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| style.clean(cell).into_owned()));
    }
    let text = table.trim_fmt();
    text.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// A value in one cell.
pub(in crate::cli) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The longest text in a cell of a table whose rows are read at a glance.
const LONGEST: usize = 60;

/// The beginning of a long text; JSON and YAML have all of it.
pub(in crate::cli) fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST - 1) {
        Some((end, last)) if end + last.len_utf8() < text.len() => format!("{}…", &text[..end]),
        Some(_) | None => text,
    }
}

/// A time to the second.
pub(in crate::cli) fn time(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_to_a_cells_length() {
        assert_eq!(cut("ü".repeat(60)), "ü".repeat(60));
        assert_eq!(cut("ü".repeat(61)), "ü".repeat(59) + "…");
    }
}
