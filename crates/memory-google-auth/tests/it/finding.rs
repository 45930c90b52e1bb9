//! The order of places, and what is said where nothing is found.

use std::path::PathBuf;

use memory_core::ErrorKind;
use memory_google_auth::{CredentialChoice, GoogleAuthSettings, Place};
use serde_json::json;
use tempfile::TempDir;

use crate::stub::{Answer, Stub};
use crate::support::*;

/// A machine that has credentials in every place.
struct Machine {
    folder: TempDir,
    stub: Stub,
    settings: GoogleAuthSettings,
    environment: TestEnvironment,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stub = Stub::start(|_| {
            Answer::Whole(200, vec![("Metadata-Flavor", "Google")], "a@b".to_owned())
        });
        let home = folder.path().join("home");
        let gcloud = home.join(".config").join("gcloud");
        std::fs::create_dir_all(&gcloud).unwrap();
        write(&gcloud, "application_default_credentials.json", &user("https://a/"));
        let subject = folder.path().join("subject");
        std::fs::write(&subject, SUBJECT_TOKEN).unwrap();
        let external = external("https://a/", &subject);

        let mut settings = settings(CredentialChoice::Auto);
        settings.key_file = Some(write(folder.path(), "key.json", &service_account()));
        settings.metadata_host = Some(stub.host());
        settings.workload_identity_file = Some(write(folder.path(), "workload.json", &external));
        let adc = write(folder.path(), "adc.json", &user("https://a/"));
        let mut environment = TestEnvironment::default()
            .with("ORCHESTRA_GOOGLE_KEY", service_account().to_string())
            .with("GOOGLE_APPLICATION_CREDENTIALS", adc);
        environment.home = Some(home);
        Self { folder, stub, settings, environment }
    }

    fn gcloud_file(&self) -> PathBuf {
        let home = self.environment.home.as_ref().unwrap();
        home.join(".config/gcloud/application_default_credentials.json")
    }

    /// Takes away what a place has.
    fn without(&mut self, place: Place) {
        match place {
            Place::KeyFile => self.settings.key_file = None,
            Place::KeyVariable => {
                self.environment.variables.remove("ORCHESTRA_GOOGLE_KEY");
            }
            Place::ApplicationDefault => {
                self.environment.variables.remove("GOOGLE_APPLICATION_CREDENTIALS");
            }
            Place::GcloudFile => std::fs::remove_file(self.gcloud_file()).unwrap(),
            Place::Metadata => {
                self.settings.metadata_host = settings(CredentialChoice::Auto).metadata_host;
            }
            Place::WorkloadIdentity => self.settings.workload_identity_file = None,
            _ => unreachable!("no place to take from"),
        }
    }

    fn open(&self) -> memory_core::Result<Place> {
        open(&self.settings, &self.environment, clock()).map(|found| found.place)
    }

    /// Opens with an explicit choice, and no setting that it would not use.
    fn open_as(&self, choice: CredentialChoice) -> memory_core::Result<Place> {
        let mut settings = self.settings.clone();
        settings.credentials = choice;
        if choice != CredentialChoice::KeyFile {
            settings.key_file = None;
        }
        if choice != CredentialChoice::WorkloadIdentity {
            settings.workload_identity_file = None;
        }
        open(&settings, &self.environment, clock()).map(|found| found.place)
    }
}

const ORDER: [Place; 6] = [
    Place::KeyFile,
    Place::KeyVariable,
    Place::ApplicationDefault,
    Place::GcloudFile,
    Place::Metadata,
    Place::WorkloadIdentity,
];

#[test]
fn auto_takes_the_first_of_the_order_and_lists_all_where_there_is_none() {
    let mut machine = Machine::new();
    for place in ORDER {
        assert_eq!(machine.open().unwrap(), place);
        machine.without(place);
    }
    let error = machine.open().unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false));
    assert_eq!((error.backend(), error.operation()), ("google-auth", "open"));
    let gcloud = machine.gcloud_file();
    assert_eq!(
        error.message(),
        format!(
            "no credentials of Google were found. Tried, in order: \
             (1) the key file of the settings: `key_file` is not set; \
             (2) the key in the environment: ORCHESTRA_GOOGLE_KEY is not set; \
             (3) the file that GOOGLE_APPLICATION_CREDENTIALS names: the variable is not set; \
             (4) the application default credentials of gcloud: {} does not exist; \
             (5) the metadata server at 127.0.0.1:1: it cannot be reached; \
             (6) the workload identity file of the settings: `workload_identity_file` is not set. \
             Set one of them, run `gcloud auth application-default login`, or set credentials = \
             \"none\" for an emulator",
            gcloud.display()
        )
    );
}

#[test]
fn an_earlier_place_is_taken_though_later_ones_are_not_there() {
    for kept in ORDER {
        let mut machine = Machine::new();
        for place in ORDER {
            if place != kept {
                machine.without(place);
            }
        }
        assert_eq!(machine.open().unwrap(), kept);
    }
}

#[test]
fn what_is_set_and_cannot_be_used_is_never_passed_over() {
    for (place, number) in [
        (Place::KeyFile, 1),
        (Place::KeyVariable, 2),
        (Place::ApplicationDefault, 3),
        (Place::GcloudFile, 4),
        (Place::WorkloadIdentity, 6),
    ] {
        let mut machine = Machine::new();
        for earlier in ORDER.into_iter().take_while(|earlier| *earlier != place) {
            machine.without(earlier);
        }
        let bad = machine.folder.path().join("bad.json");
        std::fs::write(&bad, format!("{{\"type\": \"{CLIENT_SECRET}\"}}")).unwrap();
        match place {
            Place::KeyFile => machine.settings.key_file = Some(bad),
            Place::KeyVariable => {
                machine.environment = machine.environment.with("ORCHESTRA_GOOGLE_KEY", "canary");
            }
            Place::ApplicationDefault => {
                machine.environment =
                    machine.environment.with("GOOGLE_APPLICATION_CREDENTIALS", bad);
            }
            Place::GcloudFile => {
                std::fs::copy(&bad, machine.gcloud_file()).unwrap();
            }
            _ => machine.settings.workload_identity_file = Some(bad),
        }
        let error = machine.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.message();
        assert!(message.contains(&format!("({number}) {place}: ")), "{message}");
        assert!(!message.contains(&format!("({}) ", number + 1)), "{message}");
        assert!(message.contains("Nothing after it was tried"), "{message}");
        assert_clean(&error);
        assert!(number == 6 || machine.stub.seen().is_empty(), "the metadata server was asked");
    }
}

#[test]
fn an_explicit_choice_looks_at_its_place_alone() {
    for (choice, place) in [
        (CredentialChoice::KeyFile, Place::KeyFile),
        (CredentialChoice::KeyEnv, Place::KeyVariable),
        (CredentialChoice::ApplicationDefault, Place::ApplicationDefault),
        (CredentialChoice::Metadata, Place::Metadata),
        (CredentialChoice::WorkloadIdentity, Place::WorkloadIdentity),
        (CredentialChoice::Emulator, Place::Emulator),
    ] {
        let machine = Machine::new();
        assert_eq!(machine.open_as(choice).unwrap(), place);
        let asked = usize::from(choice == CredentialChoice::Metadata);
        assert_eq!(machine.stub.seen().len(), asked, "{choice:?}");
    }
}

#[test]
fn an_explicit_choice_that_cannot_be_had_fails() {
    let gone = |machine: &mut Machine, place| match place {
        Place::KeyFile => machine.settings.key_file = Some("/nowhere/key.json".into()),
        Place::WorkloadIdentity => {
            machine.settings.workload_identity_file = Some("/nowhere/key.json".into());
        }
        place => machine.without(place),
    };
    for (choice, places, words) in [
        (CredentialChoice::KeyFile, vec![Place::KeyFile], "/nowhere/key.json does not exist"),
        (CredentialChoice::KeyEnv, vec![Place::KeyVariable], "ORCHESTRA_GOOGLE_KEY is not set"),
        (
            CredentialChoice::ApplicationDefault,
            vec![Place::ApplicationDefault, Place::GcloudFile],
            "(1) the file that GOOGLE_APPLICATION_CREDENTIALS names: the variable is not set; (2)",
        ),
        (CredentialChoice::Metadata, vec![Place::Metadata], "it cannot be reached"),
        (
            CredentialChoice::WorkloadIdentity,
            vec![Place::WorkloadIdentity],
            "/nowhere/key.json does not exist",
        ),
    ] {
        let mut machine = Machine::new();
        for place in places {
            gone(&mut machine, place);
        }
        let error = machine.open_as(choice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{choice:?}");
        assert!(error.message().contains(words), "{choice:?}: {error}");
        assert!(error.message().contains("(1) "), "{error}");
    }
}

#[test]
fn gclouds_file_serves_as_application_default() {
    let mut machine = Machine::new();
    machine.without(Place::ApplicationDefault);
    let choice = CredentialChoice::ApplicationDefault;
    assert_eq!(machine.open_as(choice).unwrap(), Place::GcloudFile);
    // Elsewhere, where gcloud was told so.
    let folder = machine.folder.path().join("sdk");
    std::fs::create_dir(&folder).unwrap();
    machine.environment = machine.environment.with("CLOUDSDK_CONFIG", &folder);
    let error = machine.open_as(choice).unwrap_err();
    assert!(error.message().contains(folder.to_str().unwrap()), "{error}");
    write(&folder, "application_default_credentials.json", &user("https://a/"));
    assert_eq!(machine.open_as(choice).unwrap(), Place::GcloudFile);
    // No home at all.
    machine.environment = TestEnvironment::default();
    let error = machine.open_as(choice).unwrap_err();
    assert!(error.message().contains("there is no home folder"), "{error}");
}

#[test]
fn a_workload_identity_file_is_of_an_external_account() {
    let mut machine = Machine::new();
    machine.settings.workload_identity_file = machine.settings.key_file.clone();
    let error = machine.open_as(CredentialChoice::WorkloadIdentity).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let words = "its `type` is service_account, not external_account";
    assert!(error.message().contains(words), "{error}");
    // The other way round it is taken: such a file is known wherever one is read.
    let external = Machine::new();
    machine.settings.key_file = external.settings.workload_identity_file;
    assert_eq!(machine.open_as(CredentialChoice::KeyFile).unwrap(), Place::KeyFile);
}

#[test]
fn an_empty_variable_is_not_set_and_another_name_is_heeded() {
    let mut machine = Machine::new();
    machine.environment = machine.environment.with("ORCHESTRA_GOOGLE_KEY", "");
    let choice = CredentialChoice::KeyEnv;
    assert!(machine.open_as(choice).unwrap_err().message().contains("is not set"));
    machine.settings.key_variable = "OTHER_KEY".to_owned();
    machine.environment = machine.environment.with("OTHER_KEY", service_account().to_string());
    assert_eq!(machine.open_as(choice).unwrap(), Place::KeyVariable);
}

#[test]
fn a_secret_in_place_of_a_path_is_not_repeated() {
    let document = user("https://a/").to_string();
    for secret in [document.as_str(), RSA_KEY, REFRESH_TOKEN] {
        let environment = TestEnvironment::default().with("GOOGLE_APPLICATION_CREDENTIALS", secret);
        let choice = settings(CredentialChoice::ApplicationDefault);
        let error = open(&choice, &environment, clock()).unwrap_err();
        assert!(error.message().contains("does not look like a path"), "{error}");
        assert_clean(&error);
        let error = open_file(secret.as_ref(), clock()).unwrap_err();
        assert_clean(&error);
    }
}

#[test]
fn a_folder_is_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let error = open_file(folder.path(), clock()).unwrap_err();
    assert!(error.message().contains("it is not a file"), "{error}");
    let below = write(folder.path(), "key.json", &json!({})).join("key.json");
    let error = open_file(&below, clock()).unwrap_err();
    assert!(error.message().contains("does not exist"), "{error}");
}

#[test]
fn the_quota_project_is_of_the_settings_the_environment_or_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut document = user("https://a/");
    document["quota_project_id"] = json!("of-the-file");
    let mut settings = settings(CredentialChoice::KeyFile);
    settings.key_file = Some(write(folder.path(), "key.json", &document));
    let mut environment = TestEnvironment::default();
    let project = |settings: &GoogleAuthSettings, environment: &TestEnvironment| {
        open(settings, environment, clock()).map(|found| found.quota_project)
    };
    assert_eq!(project(&settings, &environment).unwrap().unwrap(), "of-the-file");
    environment = environment.with("GOOGLE_CLOUD_QUOTA_PROJECT", "of-the-environment");
    assert_eq!(project(&settings, &environment).unwrap().unwrap(), "of-the-environment");
    settings.quota_project = Some("of-the-settings".to_owned());
    assert_eq!(project(&settings, &environment).unwrap().unwrap(), "of-the-settings");
    settings.quota_project = None;
    environment = environment.with("GOOGLE_CLOUD_QUOTA_PROJECT", "canary of a project");
    let error = project(&settings, &environment).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_clean(&error);
}

#[test]
fn an_emulator_is_sent_owner_and_nothing_is_asked() {
    let machine = Machine::new();
    let mut choice = settings(CredentialChoice::Emulator);
    choice.metadata_host = Some(machine.stub.host());
    let found = open(&choice, &TestEnvironment::default(), clock()).unwrap();
    let token = token(&found.provider).unwrap();
    assert_eq!((token.expose(), token.expires_at()), ("owner", None));
    assert!(machine.stub.seen().is_empty());
}
