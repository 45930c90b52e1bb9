//! An overloaded server with a limited and an unlimited client, as tables.
//!
//! `cargo run --release -p memory-layers --example overload` prints them; with `-- --save FILE`
//! they replace what stands between the markers of a page, which is how `docs/overload.md` gets
//! its figures.

#![allow(clippy::print_stdout, reason = "a program prints its tables")]

mod experiment;

use std::error::Error;
use std::fs;

/// Stands above the tables of a page.
const BEGIN: &str = "<!-- begin: generated -->\n";
/// Stands below them.
const END: &str = "<!-- end: generated -->";

fn main() -> Result<(), Box<dyn Error>> {
    let limited = experiment::run(Some(experiment::settings()))?;
    let unlimited = experiment::run(None)?;
    let tables = experiment::tables(&limited, &unlimited);
    print!("{tables}");
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(()),
        (Some("--save"), Some(path)) => {
            let page = fs::read_to_string(&path)?;
            let (head, rest) = page.split_once(BEGIN).ok_or("the page has no first marker")?;
            let (_, tail) = rest.split_once(END).ok_or("the page has no last marker")?;
            fs::write(&path, format!("{head}{BEGIN}\n{tables}\n{END}{tail}"))?;
            println!("written: {path}");
            Ok(())
        }
        _ => Err("usage: overload [--save FILE]".into()),
    }
}
