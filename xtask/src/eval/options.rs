//! The arguments of `cargo xtask eval`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What one can ask for, for messages.
const KNOWN: &str = "--locomo FILE, --items FILE, --questions FILE, --arms LIST, --only LIST, \
                     --out FILE, --with-text, --config FILE, --program FILE, --ablate, --wrong, \
                     --stripped";

/// How to look for memories; the names are those of the option `--arm` of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// By words.
    Keyword,
    /// By meaning.
    Vector,
    /// By both, fused.
    Both,
}

impl Arm {
    const ALL: [Self; 3] = [Self::Keyword, Self::Vector, Self::Both];

    /// The name that the program knows it by.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Vector => "vector",
            Self::Both => "both",
        }
    }

    /// Whether the model is needed for it.
    pub(crate) fn needs_model(self) -> bool {
        self != Self::Keyword
    }
}

/// Where memories and questions come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file in the format of LoCoMo.
    Locomo(PathBuf),
    /// Two files in the plain format.
    Plain {
        /// The memories.
        items: PathBuf,
        /// The questions.
        questions: PathBuf,
    },
    /// The sample conversation.
    Sample,
}

/// The arguments.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) source: Source,
    /// Without repetition, at least one.
    pub(crate) arms: Vec<Arm>,
    /// The conversations to take; all where it is empty.
    pub(crate) only: Vec<String>,
    /// Where the lines go, if somewhere else than usual.
    pub(crate) out: Option<PathBuf>,
    /// Whether the words of the questions go along for a LoCoMo file as well.
    pub(crate) with_text: bool,
    /// Whether to ask with each signal off and alone, rather than once.
    pub(crate) ablate: bool,
    /// Whether to ask the questions of other conversations, rather than a conversation's own.
    pub(crate) wrong: bool,
    /// Whether the turns of a conversation become facts without author and session.
    pub(crate) stripped: bool,
    /// The settings of the program, if others than its defaults.
    pub(crate) config: Option<PathBuf>,
    /// The program, if another than that of this workspace.
    pub(crate) program: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments; a value follows its name, or an equals sign.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let (mut locomo, mut items, mut questions) = (None, None, None);
        let (mut out, mut config, mut program) = (None, None, None);
        let (mut arms, mut only, mut with_text) = (Arm::ALL.to_vec(), Vec::new(), false);
        let (mut ablate, mut wrong, mut stripped) = (false, false, false);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let flag = match arg.as_str() {
                "--with-text" => Some(&mut with_text),
                "--ablate" => Some(&mut ablate),
                "--wrong" => Some(&mut wrong),
                "--stripped" => Some(&mut stripped),
                _ => None,
            };
            if let Some(flag) = flag {
                *flag = true;
                continue;
            }
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let file = match name {
                "--locomo" => &mut locomo,
                "--items" => &mut items,
                "--questions" => &mut questions,
                "--out" => &mut out,
                "--config" => &mut config,
                "--program" => &mut program,
                "--arms" | "--only" => &mut None,
                _ => bail!("unknown argument `{arg}`; known: {KNOWN}"),
            };
            let value = inline
                .or_else(|| args.next().cloned())
                .filter(|value| !value.is_empty())
                .with_context(|| format!("{name} needs a value"))?;
            match name {
                "--arms" => {
                    arms.clear();
                    for name in list(&value) {
                        let arm = arm(name)?;
                        if !arms.contains(&arm) {
                            arms.push(arm);
                        }
                    }
                }
                "--only" => only = list(&value).map(str::to_owned).collect(),
                _ => *file = Some(PathBuf::from(value)),
            }
        }
        let source = match (locomo, items, questions) {
            (Some(file), None, None) => Source::Locomo(file),
            (None, Some(items), Some(questions)) => Source::Plain { items, questions },
            (None, None, None) => Source::Sample,
            (None, _, _) => bail!("--items and --questions need each other"),
            _ => bail!("--locomo goes without --items and --questions"),
        };
        if !matches!(source, Source::Locomo(_)) && !only.is_empty() {
            bail!("--only chooses conversations of a LoCoMo file; give one with --locomo");
        }
        if !matches!(source, Source::Locomo(_)) && (ablate || wrong || stripped) {
            bail!("--ablate, --wrong and --stripped go with a LoCoMo file; give one with --locomo");
        }
        if (ablate || wrong) && config.is_some() {
            bail!("--ablate and --wrong have settings of their own; leave --config out");
        }
        Ok(Self { source, arms, only, out, with_text, ablate, wrong, stripped, config, program })
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

fn arm(name: &str) -> Result<Arm> {
    let arm = Arm::ALL.into_iter().find(|arm| arm.name() == name);
    arm.with_context(|| format!("no arm `{name}`; known: keyword, vector, both"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn without_arguments_it_is_the_sample_with_all_arms() {
        let options = parse("").unwrap();
        assert_eq!(options.source, Source::Sample);
        assert_eq!(options.arms, Arm::ALL);
        assert!(options.only.is_empty() && options.out.is_none() && !options.with_text);
    }

    #[test]
    fn every_argument_is_read_in_either_form() {
        let options = parse(
            "--locomo a.json --arms=both,keyword,both --only x,y --out o.jsonl --with-text \
             --config=c.toml --program p",
        )
        .unwrap();
        assert_eq!(options.source, Source::Locomo("a.json".into()));
        assert_eq!(options.arms, [Arm::Both, Arm::Keyword]);
        assert_eq!(options.only, ["x", "y"]);
        assert_eq!(options.out, Some("o.jsonl".into()));
        assert!(options.with_text);
        assert_eq!(options.config, Some("c.toml".into()));
        assert_eq!(options.program, Some("p".into()));
        let plain = parse("--items=i --questions q").unwrap().source;
        assert_eq!(plain, Source::Plain { items: "i".into(), questions: "q".into() });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (line, part) in [
            ("--locomo", "needs a value"),
            ("--arms=", "needs a value"),
            ("--arms keyword,meaning", "`meaning`"),
            ("--items a", "need each other"),
            ("--locomo a --questions q", "without"),
            ("--only a", "--locomo"),
            ("--fast", "unknown argument"),
            ("a.json", "unknown argument"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
