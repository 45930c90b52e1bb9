//! Where the Firestore emulator and a Java runtime are on this machine.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The variable that names the emulator's jar, where no argument does.
pub(crate) const JAR: &str = "ORCHESTRA_FIRESTORE_EMULATOR_JAR";

/// The variables that name the root folder of an installed Google Cloud SDK.
const ROOTS: [&str; 3] = ["CLOUDSDK_ROOT_DIR", "GOOGLE_CLOUD_SDK", "CLOUDSDK_ROOT"];

/// The jar below the root folder of the SDK.
const IN_SDK: &str = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar";

/// Where Debian's packages of the SDK install it.
const DEBIAN: &str = "/usr/lib/google-cloud-sdk";

/// What to install.
const INSTALL: &str = "  \
    the emulator:  gcloud components install cloud-firestore-emulator\n  \
                   or, with Google's Debian packages: apt-get install google-cloud-cli-firestore-emulator\n  \
    Java:          a runtime of version 11 or later, such as: apt-get install default-jre-headless\n  \
    or name the jar by ORCHESTRA_FIRESTORE_EMULATOR_JAR, or an emulator that runs by \
    FIRESTORE_EMULATOR_HOST=HOST:PORT";

/// What is needed to start the emulator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The emulator.
    pub(crate) jar: PathBuf,
    /// The program `java`.
    pub(crate) java: PathBuf,
}

/// Why the emulator cannot be started.
#[derive(Debug)]
pub(crate) enum Missing {
    /// It is not installed, or Java is not: a suite that needs it can be left out.
    NotInstalled(String),
    /// It cannot be fetched: a suite that needs it can be left out.
    Unfetched(String),
    /// Somebody has named a jar that is not there: nothing else is taken for it.
    NotAsNamed(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(what) => write!(f, "{what}\nInstall\n{INSTALL}"),
            Self::Unfetched(what) | Self::NotAsNamed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Missing {}

/// What the search looks at, so that tests can give it something else.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The jar that an argument names.
    pub(crate) named: Option<PathBuf>,
    variables: Vec<(&'static str, OsString)>,
    /// The root folder of Debian's packages.
    debian: PathBuf,
}

impl Surroundings {
    /// This machine.
    pub(crate) fn here() -> Self {
        let names = ROOTS.into_iter().chain([JAR, "HOME", "JAVA_HOME", "PATH"]);
        let variables = names
            .filter_map(|name| Some((name, env::var_os(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self { named: None, variables, debian: PathBuf::from(DEBIAN) }
    }

    fn variable(&self, name: &str) -> Option<PathBuf> {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| PathBuf::from(value))
    }

    /// The jar, and Java.
    ///
    /// # Errors
    /// [`Missing`]: what was looked for, where, and what to install.
    pub(crate) fn find(&self) -> Result<Found, Missing> {
        let jar = self.jar()?;
        let java = self.java().ok_or_else(|| {
            Missing::NotInstalled(
                "no Java runtime: neither JAVA_HOME nor PATH leads to a program `java`".to_owned(),
            )
        })?;
        Ok(Found { jar, java })
    }

    fn jar(&self) -> Result<PathBuf, Missing> {
        let by_argument = self.named.clone().map(|jar| ("--emulator-jar", jar));
        let by_variable = || self.variable(JAR).map(|jar| (JAR, jar));
        if let Some((by, jar)) = by_argument.or_else(by_variable) {
            if jar.is_file() {
                return Ok(jar);
            }
            let what = format!("{by} names {}, which is no file", jar.display());
            return Err(Missing::NotAsNamed(what));
        }
        let mut looked = Vec::new();
        for root in self.roots() {
            let jar = root.join(IN_SDK);
            if jar.is_file() {
                return Ok(jar);
            }
            looked.push(root.display().to_string());
        }
        Err(Missing::NotInstalled(format!(
            "no Firestore emulator: no {IN_SDK} in {}",
            looked.join(", ")
        )))
    }

    /// The folders where the SDK may be, the most explicit first.
    fn roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<_> = ROOTS.iter().filter_map(|name| self.variable(name)).collect();
        // `gcloud` is a link into the folder `bin` of the SDK, or stands there itself.
        let gcloud = self.on_path("gcloud").and_then(|path| fs::canonicalize(path).ok());
        roots.extend(
            gcloud.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned),
        );
        roots.push(self.debian.clone());
        roots.extend(self.variable("HOME").map(|home| home.join("google-cloud-sdk")));
        roots.dedup();
        roots
    }

    fn java(&self) -> Option<PathBuf> {
        let in_home = self.variable("JAVA_HOME").map(|home| home.join("bin").join(program("java")));
        in_home.filter(|java| java.is_file()).or_else(|| self.on_path("java"))
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        let path = self.variable("PATH")?;
        env::split_paths(&path).map(|folder| folder.join(program(name))).find(|file| file.is_file())
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(name).with_extension(env::consts::EXE_EXTENSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a file at each path.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn with(variables: &[(&'static str, &Path)]) -> Surroundings {
        let variables = variables.iter().map(|(name, value)| (*name, value.into())).collect();
        Surroundings { named: None, variables, debian: PathBuf::from("nowhere") }
    }

    #[test]
    fn the_jar_is_found_in_the_sdk_wherever_that_is() {
        let sdk = folder(&[IN_SDK, "bin/gcloud", "java/bin/java"]);
        let java = sdk.path().join("java");
        let jar = sdk.path().join(IN_SDK);
        for root in ROOTS {
            let found = with(&[(root, sdk.path()), ("JAVA_HOME", &java)]).find().unwrap();
            assert_eq!(found, Found { jar: jar.clone(), java: java.join("bin/java") });
        }
        let mut debian = with(&[("JAVA_HOME", &java)]);
        debian.debian = sdk.path().to_owned();
        assert_eq!(debian.jar().unwrap(), jar);
        let home = folder(&[&format!("google-cloud-sdk/{IN_SDK}")]);
        let found = with(&[("HOME", home.path())]).jar().unwrap();
        assert_eq!(found, home.path().join("google-cloud-sdk").join(IN_SDK));
        assert!(with(&[]).jar().is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_program_gcloud_leads_to_its_sdk_through_links() {
        let sdk = folder(&[IN_SDK, "bin/gcloud"]);
        let bin = folder(&["other"]);
        std::os::unix::fs::symlink(sdk.path().join("bin/gcloud"), bin.path().join("gcloud"))
            .unwrap();
        let empty = folder(&[]);
        let path = env::join_paths([empty.path(), bin.path()]).unwrap();
        let found = with(&[("PATH", Path::new(&path))]).jar().unwrap();
        assert_eq!(found, fs::canonicalize(sdk.path()).unwrap().join(IN_SDK));
        fs::remove_file(bin.path().join("gcloud")).unwrap();
        assert!(with(&[("PATH", Path::new(&path))]).jar().is_err());
    }

    #[test]
    fn a_jar_that_is_named_is_taken_or_missed_and_nothing_else() {
        let sdk = folder(&[IN_SDK, "by-variable.jar", "by-argument.jar"]);
        let by_variable = sdk.path().join("by-variable.jar");
        let mut surroundings = with(&[(ROOTS[0], sdk.path()), (JAR, &by_variable)]);
        assert_eq!(surroundings.jar().unwrap(), by_variable);
        surroundings.named = Some(sdk.path().join("by-argument.jar"));
        assert_eq!(surroundings.jar().unwrap(), sdk.path().join("by-argument.jar"));
        surroundings.named = Some(sdk.path().join("gone.jar"));
        let error = surroundings.jar().unwrap_err();
        assert!(matches!(error, Missing::NotAsNamed(_)));
        assert!(error.to_string().contains("--emulator-jar") && error.to_string().contains("gone"));
        let gone = sdk.path().join("gone-too.jar");
        let error = with(&[(ROOTS[0], sdk.path()), (JAR, &gone)]).jar().unwrap_err().to_string();
        assert!(error.contains(JAR) && error.contains("gone-too"), "{error}");
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_install() {
        let sdk = folder(&[IN_SDK]);
        let error = with(&[("HOME", sdk.path())]).find().unwrap_err().to_string();
        for part in [
            "no Firestore emulator",
            "google-cloud-sdk",
            "gcloud components install cloud-firestore-emulator",
            "google-cloud-cli-firestore-emulator",
            "default-jre-headless",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = with(&[(ROOTS[0], sdk.path()), ("PATH", sdk.path())]).find().unwrap_err();
        assert!(matches!(error, Missing::NotInstalled(_)));
        assert!(error.to_string().contains("no Java runtime"), "{error}");
        assert!(error.to_string().contains("default-jre-headless"), "{error}");
    }

    #[test]
    fn java_is_looked_for_at_home_and_on_the_path() {
        let one = folder(&["bin/java"]);
        let bin = one.path().join("bin");
        assert_eq!(with(&[("PATH", &bin)]).java().unwrap(), bin.join("java"));
        // A home without Java is passed by.
        let empty = folder(&[]);
        let both = with(&[("JAVA_HOME", empty.path()), ("PATH", &bin)]);
        assert_eq!(both.java().unwrap(), bin.join("java"));
        assert_eq!(with(&[("JAVA_HOME", one.path())]).java().unwrap(), bin.join("java"));
        assert!(with(&[("PATH", empty.path())]).java().is_none());
    }
}
