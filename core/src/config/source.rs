//! Reading a TOML file and variables into [`Entries`].

use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

use super::{ConfigFile, Entries, KEYS, Kind, OTHER_VARIABLES, Problem, entries, keys, nearest::nearest};

/// Reads a file. What is wrong is put into `problems`, the rest is read all the same.
pub(super) fn read_file(file: ConfigFile<'_>, entries: &mut Entries, problems: &mut Vec<Problem>) {
    match DeTable::parse(file.text) {
        Ok(table) => Reader { file, entries, problems }.table("", table.get_ref()),
        Err(error) => {
            let place = error.span().map_or_else(|| file.name.to_owned(), |span| place(file, span.start));
            problems.push(Problem::new(place, error.message()));
        }
    }
}

fn place(file: ConfigFile<'_>, offset: usize) -> String {
    let before = file.text.bytes().take(offset);
    format!("{}:{}", file.name, before.filter(|byte| *byte == b'\n').count() + 1)
}

struct Reader<'a> {
    file: ConfigFile<'a>,
    entries: &'a mut Entries,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        // The map is sorted by name; problems are wanted in the order of the file.
        let mut items: Vec<_> = table.iter().collect();
        items.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in items {
            let path = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            self.item(path, name.span().start, value);
        }
    }

    fn item(&mut self, path: String, offset: usize, value: &Spanned<DeValue<'_>>) {
        if let Some(key) = keys::find(&path) {
            match to_toml(value.get_ref()).and_then(|value| key.kind.check(&value)) {
                Some(checked) => self.entries.insert(path, checked),
                None => {
                    let shown = self.file.text.get(value.span()).unwrap_or_default();
                    self.problem(offset, not_allowed(&path, key.kind, shown));
                }
            }
            return;
        }
        let inner = format!("{path}.");
        let is_table = KEYS.iter().any(|key| key.path.starts_with(&inner));
        match value.get_ref() {
            DeValue::Array(tables) if path == keys::LISTENERS => {
                for (index, table) in tables.iter().enumerate() {
                    match table.get_ref() {
                        DeValue::Table(table) => self.table(&format!("{path}.{index}"), table),
                        _ => self.problem(offset, format!("{path}: allowed: tables, written as [[{path}]]")),
                    }
                }
            }
            DeValue::Table(table) if is_table && path != keys::LISTENERS => self.table(&path, table),
            _ if path == keys::LISTENERS => {
                self.problem(
                    offset,
                    format!("{path}: allowed: a list of tables, each written as [[{path}]]"),
                );
            }
            _ if is_table => self.problem(offset, format!("{path}: allowed: a table, written as [{path}]")),
            _ => self.problem(offset, unknown_key(&path)),
        }
    }

    fn problem(&mut self, offset: usize, message: String) {
        self.problems.push(Problem::new(place(self.file, offset), message));
    }
}

fn not_allowed(path: &str, kind: Kind, shown: &str) -> String {
    let shown = if kind.is_secret() { "something else" } else { shown };
    format!("{path}: {shown} stands there; allowed: {kind}")
}

fn unknown_key(path: &str) -> String {
    // Compared without the position in a list, which is not written in the file.
    let pattern: Vec<&str> =
        path.split('.').map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect();
    let shown = pattern.join(".");
    let known = nearest(&shown, KEYS.iter().map(|key| key.path.to_owned()));
    format!(
        "{}: unknown key; the nearest known one is {}",
        shown.replace(".*", ""),
        known.unwrap_or_default().replace(".*", "")
    )
}

/// Reads the variables that start with `MYELIN_`.
pub(super) fn read_env<I>(env: I, entries: &mut Entries, problems: &mut Vec<Problem>)
where
    I: IntoIterator<Item = (String, String)>,
{
    for (variable, text) in env {
        let Some(name) = variable.strip_prefix("MYELIN_") else { continue };
        if OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        let Some((key, path)) = entries::by_variable(name) else {
            let known = nearest(&variable, KEYS.iter().map(super::Key::variable)).unwrap_or_default();
            problems
                .push(Problem::new(variable, format!("unknown variable; the nearest known one is {known}")));
            continue;
        };
        match key.kind.check(&key.kind.read_variable(&text)) {
            Some(checked) => entries.insert(path, checked),
            None => problems.push(Problem::new(variable, not_allowed(&path, key.kind, &format!("{text:?}")))),
        }
    }
}

/// The plain value; none for dates and tables, which no key takes, and for numbers out of range.
fn to_toml(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_toml(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}
