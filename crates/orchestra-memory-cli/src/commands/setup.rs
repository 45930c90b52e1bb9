//! `setup`: what a store has to be set up with. Definitions are printed without asking anything, and
//! need no credentials; filter keys are declared in the store itself.

use crate::app::App;
use crate::args::{Setup, SetupCommand, SetupFirestore};
use crate::failure::Result;

/// `setup`.
pub(crate) async fn run(app: &mut App, setup: &Setup) -> Result<()> {
    match &setup.command {
        SetupCommand::Firestore(args) => firestore::run(app, args).await,
    }
}

#[cfg(not(feature = "firestore"))]
mod firestore {
    use orchestra_memory::Error;

    use super::{App, Result, SetupFirestore};

    #[expect(clippy::unused_async, reason = "as where there is something to wait for")]
    pub(super) async fn run(_: &mut App, _: &SetupFirestore) -> Result<()> {
        let message = "`setup firestore` needs the feature `firestore`, which this build was made \
                       without";
        Err(Error::unsupported(message).into())
    }
}

#[cfg(feature = "firestore")]
mod firestore {
    use orchestra_memory::firestore::{self, IndexDefinitions};
    use orchestra_memory::{
        EmbeddingSettings, EmbeddingSpace, Error, ErrorKind, Metric, Provider, StoreUrl,
    };
    use serde_json::{Value, json};

    use super::{App, Result, SetupFirestore};
    use crate::args::SetupFormat;
    use crate::failure::Failure;
    use crate::human;
    use crate::output::complain;

    /// `setup firestore`.
    pub(super) async fn run(app: &mut App, setup: &SetupFirestore) -> Result<()> {
        let places = app.firestore_places()?;
        let settings = firestore::settings(&StoreUrl::parse(&places.url)?, &places.settings)?;
        if settings.project.is_empty() && (setup.format != SetupFormat::Json || setup.declare_keys)
        {
            let message = "name the project, as in --store firestore://PROJECT or `project` in the \
                           section [firestore] of the settings; --format json does without";
            return Err(Error::new(ErrorKind::Config, message).into());
        }
        if setup.declare_keys {
            let rewritten = firestore::declare_filter_keys(settings, &places.settings).await?;
            return match app.output.is_json() {
                true => app.output.json(&json!({ "setup": { "rewritten": rewritten } })),
                false => app.output.line(format!(
                    "the filter keys are declared; rewritten: {}",
                    human::count(rewritten, "memory", "memories")
                )),
            };
        }
        let mut spaces: Vec<EmbeddingSpace> =
            configured(&places.settings.embedding)?.into_iter().collect();
        for named in &setup.spaces {
            let space = space(named)?;
            if !spaces.contains(&space) {
                spaces.push(space);
            }
        }
        let definitions = IndexDefinitions::new(&settings, &spaces)?;
        let (file, commands) = (definitions.to_json(), definitions.gcloud_commands());
        let names: Vec<String> = spaces.iter().map(ToString::to_string).collect();
        if app.output.is_json() {
            let file: Value = serde_json::from_str(&file).map_err(|error| {
                Error::new(ErrorKind::Unexpected, "the definitions are not JSON").with_source(error)
            })?;
            return app.output.json(&json!({ "setup": {
                "project": settings.project,
                "database": settings.database,
                "prefix": settings.prefix,
                "spaces": names,
                "indexes": file,
                "gcloud": commands,
            } }));
        }
        // On standard error, so that the output is a file or a script as it stands.
        if !app.output.is_quiet() {
            complain(&human::one_line(&match names.as_slice() {
                [] => "no vector indexes: the settings name no embedding space, and --space does \
                       not either"
                    .to_owned(),
                names => format!("with vector indexes for {}", names.join(", ")),
            }));
        }
        if setup.format != SetupFormat::Gcloud {
            app.output.line(file.trim_end())?;
        }
        if setup.format != SetupFormat::Json {
            commands.iter().try_for_each(|command| app.output.line(command))?;
        }
        Ok(())
    }

    /// The space of what makes vectors by the settings. The local model's, too, where it is not on
    /// this machine: it may be on the one that asks the store.
    fn configured(settings: &EmbeddingSettings) -> Result<Option<EmbeddingSpace>> {
        Ok(match settings.chosen_provider() {
            Provider::Auto | Provider::MiniLm => Some(settings.minilm.space()),
            _ => settings.space()?,
        })
    }

    /// A space as it is shown: `384/cosine/MODEL@REVISION`.
    fn space(text: &str) -> Result<EmbeddingSpace> {
        let parts = || {
            let (dimensions, rest) = text.split_once('/')?;
            let (metric, rest) = rest.split_once('/')?;
            let (model, revision) = rest.rsplit_once('@')?;
            let metrics = [Metric::Cosine, Metric::Dot, Metric::Euclidean];
            let metric = metrics.into_iter().find(|known| known.name() == metric)?;
            let model = model.replace("%40", "@").replace("%25", "%");
            Some((dimensions.parse().ok()?, metric, model, revision))
        };
        let (dimensions, metric, model, revision) = parts().ok_or_else(|| {
            Failure::usage(
                "--space is DIMENSIONS/METRIC/MODEL@REVISION, as in 768/cosine/some-model@1, where \
                 METRIC is cosine, dot or euclidean",
            )
        })?;
        Ok(EmbeddingSpace::new(model, revision, dimensions, metric)?)
    }

    #[cfg(test)]
    mod tests {
        use orchestra_memory::model;

        use super::*;

        #[test]
        fn a_space_is_read_as_it_is_shown() {
            for (model, revision) in [("a/b", "1"), ("m@home%", "r"), ("nomic:latest", "2")] {
                for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                    let named = EmbeddingSpace::new(model, revision, 768, metric).unwrap();
                    assert_eq!(space(&named.to_string()).unwrap(), named);
                }
            }
            for bad in ["", "768", "768/cosine", "768/cosine/m", "x/cosine/m@1", "768/l2/m@1"] {
                assert_eq!(space(bad).unwrap_err().exit_code(), 2, "{bad}");
            }
        }

        #[test]
        fn the_space_is_that_of_the_settings() {
            let of = |toml: &str| {
                let settings = orchestra_memory::Settings::from_toml_str(toml).unwrap();
                configured(&settings.embedding).unwrap()
            };
            assert_eq!(of(""), Some(model::space()));
            assert_eq!(of("[embedding]\nprovider = 'minilm'\n"), Some(model::space()));
            let small = of("[embedding.minilm]\nprecision = 'int8'\n");
            assert_eq!(small, Some(model::Precision::Int8.space()));
            assert_eq!(of("[embedding]\nprovider = 'none'\n"), None);
            let named = of("[embedding]\nmodel = 'm'\ndimensions = 3\n").unwrap();
            assert_eq!((named.model(), named.dimensions()), ("m", 3));
        }
    }
}
