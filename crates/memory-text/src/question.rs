//! What a question mentions: names and dates. Search uses both to favour what is about those
//! people and was said in those days; neither ever decides alone what is found.
//!
//! Both are read by rules that can be written on a page, from English questions first of all.
//! They know no calendar of today: "yesterday" and "last week" are not dates here.
//!
//! ```
//! use memory_text::question::{dates, names};
//!
//! let question = "When did Caroline's sister visit New York in May 2023?";
//! assert_eq!(names(question), ["Caroline", "New York"]);
//! assert_eq!(dates(question)[0].date.to_string(), "2023-05");
//! ```

mod calendar;
mod dates;
mod names;
mod tokens;
mod without;

pub use dates::{DateMention, PartialDate, dates};
pub use names::{names, names_in};
pub use without::without_names;
