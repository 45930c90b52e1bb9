//! `settings`: what is set, and where it comes from. No store is opened, and no secret shown.

use serde_json::json;

use crate::app::{self, App, Source};
use crate::args::ShowSettings;
use crate::failure::Result;
use crate::human;

/// `settings`.
pub(crate) fn run(app: &mut App, args: &ShowSettings) -> Result<()> {
    let places = app.places()?;
    let mut entries = places.settings.entries()?;
    // What the command line and the platform make of them.
    entries.retain(|entry| !["store", "tenant"].contains(&entry.path.as_str()));
    let mut rows: Vec<(String, String, String)> = vec![
        ("store".to_owned(), app::shown(&places.url), "ORCHESTRA_MEMORY_STORE".to_owned()),
        ("tenant".to_owned(), places.tenant.to_string(), "ORCHESTRA_MEMORY_TENANT".to_owned()),
    ];
    rows.extend(entries.into_iter().map(|entry| (entry.path, entry.value, entry.variable)));
    if args.changed {
        rows.retain(|(path, ..)| places.sources.contains_key(path));
    }
    let width = rows.iter().map(|(path, ..)| path.chars().count()).max().unwrap_or(0);
    for (path, value, variable) in rows {
        let source = places.sources.get(&path);
        if app.output.is_json() {
            let (source, from) = match source {
                None => ("default", None),
                Some(Source::File) => ("file", None),
                Some(Source::Variable(name)) => ("environment", Some(name.as_str())),
                Some(Source::Option(name)) => ("command_line", Some(*name)),
            };
            app.output.json(&json!({
                "setting": path, "value": value, "source": source, "from": from,
                "variable": variable,
            }))?;
            continue;
        }
        let source = match source {
            None => String::new(),
            Some(Source::File) => "  (file)".to_owned(),
            Some(Source::Variable(name)) => format!("  ({name})"),
            Some(Source::Option(name)) => format!("  ({name})"),
        };
        let path = human::pad(&path, width);
        app.output.line(format!("{path}  {}{source}", human::one_line(&value)))?;
    }
    Ok(())
}
